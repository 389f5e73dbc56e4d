"""`SessionStorageMemory`: the whole contract over a dict."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from typing import TypeVar

from . import records
from ._versions import Versions
from .channels import Consumer, Provider, collect, consume
from .errors import SessionConflict, SessionNotFound, StorageUnavailable
from .events import Events, Hook
from .info import SessionInfo, Snapshot, Successor
from .records import Clock, Lifetime, Options, Record
from .storage import DEFAULT, KEEP, Bytes, Default, Duration, Keep, ManagedSessionStorage, providing

R = TypeVar("R")


class SessionStorageMemory(ManagedSessionStorage):
    """Keeps sessions in this process's memory, for tests and for services of one process.

    Nothing outlives the process. Any number of event loops of one thread may use it.

    Args:
        ttl: Idle timeout of new sessions, in seconds or as a timedelta; None is never. 14 days
            unless set.
        max_age: Their absolute timeout; None, the default, is never.
        clock: Gives the time in seconds since 1970 UTC.
        max_bytes: Bound on the data of all sessions together; None, the default, is no bound.
            When it is reached, expired sessions are purged; if that is not enough, the write
            raises `StorageUnavailable`, and one larger than the bound `SessionTooLarge`.
        on_created: Called with a `SessionEvent` after a session has begun, once for each; a function or
            an async function. What it raises is logged and harms nothing.
        on_rotated: The same for a session that got a new id.
        on_invalidated: The same for a live session that was ended, also by `revoke`.
        on_expired: The same for an expired session that `purge` deleted.
        log_salt: Salt of the hashes in the security log, at least 16 bytes and secret; with the same one,
            the logs of several processes can be correlated. Random unless set.
    """

    def __init__(
        self,
        *,
        ttl: Duration | None = records.TWO_WEEKS,
        max_age: Duration | None = None,
        clock: Clock = time.time,
        max_bytes: int | None = None,
        on_created: Hook | None = None,
        on_rotated: Hook | None = None,
        on_invalidated: Hook | None = None,
        on_expired: Hook | None = None,
        log_salt: bytes | None = None,
    ) -> None:
        self.clock = clock
        self._defaults = Lifetime.checked(ttl, max_age)
        self._events = Events(
            on_created=on_created,
            on_rotated=on_rotated,
            on_invalidated=on_invalidated,
            on_expired=on_expired,
            salt=log_salt,
        )
        self._max_bytes = None if max_bytes is None else records.positive("max_bytes", max_bytes)
        self._sessions: dict[bytes, tuple[Record, bytes]] = {}
        self._moved: dict[bytes, tuple[int, bytes]] = {}
        self._bytes = 0
        self._versions = Versions()

    async def write(
        self,
        id: str,
        provider: Provider,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        options = Options.checked(ttl, max_age, subject, if_match)
        return await self._write(records.digest(id), provider, options)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        options = Options.over(if_match)
        if (digest := records.key_digest(key)) is None:
            raise SessionConflict("no live session has this key: it is no key")
        return await self._write(digest, providing(data), options)

    async def _write(self, digest: bytes, provider: Provider, options: Options) -> SessionInfo:
        data = await collect(provider, limit=self._max_bytes)
        # No await from here to where the session is in place: this is atomic.
        now = self._now()
        old = self._live(digest)
        if options.if_match is not None and options.if_match != (old[0].version if old else 0):
            raise SessionConflict("the live session does not have the version of if_match")
        expired = [] if self._fits(digest, data) else self._purge(now)
        if not self._fits(digest, data):
            await self._events.expired(expired)
            raise StorageUnavailable("the memory storage is full: raise max_bytes, or end sessions")
        version = self._versions.next(now)
        record = records.written(old and old[0], options, now, version, len(data), self._defaults)
        self._bytes = self._bytes_with(digest, data)
        self._sessions[digest] = (record, data)
        info = record.info(digest)
        await self._events.expired(expired)
        if old is None:
            await self._events.created(info)
        return info

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        digest = records.digest(id)
        if (found := self._found(digest)) is None:
            raise SessionNotFound("no live session has this id")
        record, data = found
        return await consume(consumer, data, record.info(digest))

    async def load_key(self, key: str) -> Snapshot | None:
        digest = records.key_digest(key)
        if digest is None or (found := self._live(digest)) is None:
            return None
        return Snapshot(found[1], found[0].info(digest))

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        digests = records.key_digests(keys)
        return {digest.hex(): found[0].info(digest) for digest in digests if (found := self._live(digest))}

    async def successor(self, id: str) -> Successor | None:
        first = digest = records.digest(id)
        since = self._now() - records.FORWARDING
        while (moved := self._moved.get(digest)) and moved[0] >= since:
            digest = moved[1]
        if digest == first:
            return None
        self._events.moved(first, digest)
        found = self._live(digest)
        return Successor(digest.hex(), found and found[0].info(digest))

    async def invalidate(self, id: str) -> None:
        digest = records.digest(id)
        if self._end(digest):
            await self._events.invalidated([digest])

    async def info(self, id: str) -> SessionInfo | None:
        digest = records.digest(id)
        found = self._found(digest)
        return found and found[0].info(digest)

    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        digest = records.digest(id)
        idle = ttl if ttl is DEFAULT else records.duration("ttl", ttl)
        if (found := self._found(digest)) is None:
            return None
        record, data = found
        record = record.touched(self._now(), idle)
        self._sessions[digest] = (record, data)
        return record.info(digest)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        digest, new_digest = records.digest(id), records.digest(new_id)
        if (found := self._found(digest)) is None:
            raise SessionNotFound("no live session has this id")
        if self._live(new_digest):
            raise SessionConflict("a live session already has the new id")
        self._delete(new_digest)
        self._sessions[new_digest] = self._sessions.pop(digest)
        self._forward(digest, new_digest)
        info = found[0].info(new_digest)
        await self._events.rotated(info, digest)
        return info

    async def sessions(self, subject: str | None = None) -> AsyncIterator[SessionInfo]:
        if subject is None:
            chosen = sorted(self._sessions)
        else:
            chosen = self._of(records.checked_subject(subject))
        for digest in chosen:
            if found := self._live(digest):
                yield found[0].info(digest)

    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        kept = None if keep is None else records.digest(keep)
        ended = [digest for digest in self._of(records.checked_subject(subject)) if digest != kept]
        for digest in ended:
            self._delete(digest)
        await self._events.revoked(subject, ended)
        return len(ended)

    async def invalidate_key(self, key: str) -> bool:
        digest = records.key_digest(key)
        if digest is None or not self._end(digest):
            return False
        await self._events.invalidated([digest])
        return True

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        most = records.positive("batch_size", batch_size, records.MAX_BATCH)
        if max_batches is None:
            expired = self._purge(self._now())
        else:
            expired = self._purge(self._now(), most * records.positive("max_batches", max_batches))
        await self._events.expired(expired)
        return len(expired)

    def _now(self) -> int:
        return records.microseconds(self.clock)

    def _live(self, digest: bytes) -> tuple[Record, bytes] | None:
        found = self._sessions.get(digest)
        return found if found and found[0].live(self._now()) else None

    def _found(self, digest: bytes) -> tuple[Record, bytes] | None:
        if (found := self._live(digest)) is None:
            self._events.unknown(digest)
        return found

    def _of(self, subject: str) -> list[bytes]:
        """The live sessions of a subject, newest first."""
        now = self._now()
        own = [
            (record.created_at, digest)
            for digest, (record, _) in self._sessions.items()
            if record.subject == subject and record.live(now)
        ]
        return [digest for _, digest in sorted(own, reverse=True)]

    def _bytes_with(self, digest: bytes, data: bytes) -> int:
        old = self._sessions.get(digest)
        return self._bytes + len(data) - (len(old[1]) if old else 0)

    def _fits(self, digest: bytes, data: bytes) -> bool:
        return self._max_bytes is None or self._bytes_with(digest, data) <= self._max_bytes

    def _end(self, digest: bytes) -> bool:
        """Delete a session if it lives: an expired one is left to the purge, which reports it."""
        live = self._live(digest) is not None
        if live:
            self._delete(digest)
        return live

    def _delete(self, digest: bytes) -> None:
        if old := self._sessions.pop(digest, None):
            self._bytes -= len(old[1])

    def _forward(self, digest: bytes, new_digest: bytes) -> None:
        """Note where a session went, and forget what is older than a minute."""
        now = self._now()
        self._moved.pop(new_digest, None)  # or two moves there and back would lead in a circle
        self._moved.pop(digest, None)
        self._moved[digest] = now, new_digest
        while (oldest := next(iter(self._moved.items())))[1][0] < now - records.FORWARDING:
            del self._moved[oldest[0]]

    def _purge(self, now: int, most: int | None = None) -> list[bytes]:
        expired = [digest for digest, (record, _) in self._sessions.items() if not record.live(now)]
        for digest in expired[:most]:
            self._delete(digest)
        return expired[:most]
