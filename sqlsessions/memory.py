"""`SessionStorageMemory`: the whole contract over a dict."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import datetime
from operator import ne
from threading import RLock
from typing import Any, Literal, TypeVar, Unpack

from . import records
from ._validation import is_reserved
from ._versions import new_version, next_version
from .channels import Bytes, Consumer, Provider, collect, consume, providing
from .ended import KeepsEnded
from .errors import SessionConflict, SessionNotFound, StorageUnavailable
from .events import Events, Hook
from .info import EndedSession, EndReason, Rebinding, SessionInfo, Snapshot, Successor
from .records import Cap, Clock, Lifetime, Options, Record
from .storage import DEFAULT, KEEP, Default, Duration, Keep, ManagedSessionStorage
from .values import WriteOptions

R = TypeVar("R")


class SessionStorageMemory(ManagedSessionStorage, KeepsEnded):
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
        max_sessions_per_subject: The most live sessions of a subject, counted whenever a write names the subject.
            None, the default, is any number.
        when_too_many: "end_oldest", the default, or "refuse", by `TooManySessions`.
        keep_ended: How long records of sessions that have ended are kept, until a purge; None, the default, keeps none.
        touch_every: The most that `SessionInfo.used_at` is behind. None, the default, leaves that to the idle timeout.
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
        max_sessions_per_subject: int | None = None,
        when_too_many: Literal["end_oldest", "refuse"] = "end_oldest",
        keep_ended: Duration | None = None,
        touch_every: Duration | None = None,
    ) -> None:
        self.clock = clock
        self._defaults = Lifetime.checked(ttl, max_age, touch_every)
        self.default_ttl, self.touch_every = self._defaults.default_ttl, self._defaults.touch_every
        self._events = Events(
            on_created=on_created,
            on_rotated=on_rotated,
            on_invalidated=on_invalidated,
            on_expired=on_expired,
            salt=log_salt,
        )
        self._cap = Cap.checked(max_sessions_per_subject, when_too_many)
        self.max_sessions_per_subject = self._cap and self._cap.most
        self._max_bytes = None if max_bytes is None else records.positive("max_bytes", max_bytes)
        self._keep_ended = records.duration("keep_ended", keep_ended)
        self._records: list[EndedSession] = []
        self._sessions: dict[bytes, tuple[Record, bytes]] = {}
        self._moved: dict[bytes, tuple[int, bytes | None]] = {}
        self._bytes = 0
        self._guard = RLock()  # for event loops in several threads

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        return await self._write(records.digest(id), provider, Options.checked(**options))

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        options = Options.over(if_match)
        if (digest := records.key_digest(key)) is None:
            raise SessionConflict("no live session has this key: it is no key")
        return await self._write(digest, providing(data), options)

    async def _write(self, digest: bytes, provider: Provider, options: Options) -> SessionInfo:
        data = await collect(provider, limit=self._max_bytes)
        evicted: Sequence[bytes] = []
        with self._guard:
            now = self._now()
            old = self._live(digest)
            if options.if_match is not None and options.if_match != (old[0].version if old else 0):
                raise SessionConflict("the live session does not have the version of if_match")
            if self._cap is not None and self._cap.counts(options.subject):
                evicted = self._cap.excess(self._of(options.subject), digest)
            expired = [] if self._fits(digest, data) else self._purge(now)
            if fits := self._fits(digest, data):
                kept = self._sessions.get(digest)
                version = next_version(kept[0].version, new_version()) if kept else new_version()
                record = records.written(old and old[0], options, now, version, len(data), self._defaults)
                self._bytes = self._bytes_with(digest, data)
                self._sessions[digest] = (record, data)
                for ending in evicted:
                    self._delete(ending, "too_many")
        await self._events.expired(expired)
        if not fits:
            raise StorageUnavailable("the memory storage is full: raise max_bytes, or end sessions")
        info = record.info(digest)
        await self._events.invalidated(evicted)
        if old is None:
            await self._events.created(info)
        return info

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        digest = records.digest(id)
        if (found := self._found(digest)) is None:
            raise SessionNotFound("no live session has this id")
        record, data = found
        return await consume(consumer, data, record.info(digest))

    async def load(self, id: str) -> Snapshot | None:
        digest = records.digest(id)
        found = self._found(digest)
        return found and Snapshot(found[1], found[0].info(digest))

    async def load_key(self, key: str) -> Snapshot | None:
        digest = records.key_digest(key)
        if digest is None or (found := self._live(digest)) is None:
            return None
        return Snapshot(found[1], found[0].info(digest))

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        digests = records.key_digests(keys)
        return {digest.hex(): found[0].info(digest) for digest in digests if (found := self._live(digest))}

    async def successor(self, id: str) -> Successor | None:
        digest = records.digest(id)
        if (found := self._successor(digest)) is not None:
            self._events.moved(digest, bytes.fromhex(found.key))
        return found

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:
        found = {digest.hex(): self._successor(digest) for digest in records.key_digests(keys)}
        return {key: moved for key, moved in found.items() if moved is not None and moved.key != key}

    def _successor(self, first: bytes) -> Successor | None:
        given_up, digest = self._newest(first)
        found = self._live(digest)
        if given_up is None or (found and digest == first):  # the id is in use again
            return None
        return Successor(digest.hex(), found and found[0].info(digest), records.as_datetime(given_up))

    async def invalidate(self, id: str) -> None:
        digest = records.digest(id)
        if self._end(digest, "ended"):
            await self._events.invalidated([digest])

    async def info(self, id: str) -> SessionInfo | None:
        digest = records.digest(id)
        found = self._found(digest)
        return found and found[0].info(digest)

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        digest = records.digest(id)
        idle = ttl if ttl is DEFAULT or ttl is KEEP else records.duration("ttl", ttl)
        with self._guard:
            if (found := self._found(digest)) is None:
                return None
            record, data = found
            record = record.touched(self._now(), idle, self._defaults.every)
            self._sessions[digest] = (record, data)
        return record.info(digest)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._rotate(id, new_id, None)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        return await self._rotate(id, new_id, rebinding)

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        digest = records.key_digest(key)
        with self._guard:
            if digest is None or (found := self._live(digest)) is None:
                return False
            record, data = found
            rebound, renamed = rebinding.data(data), record.renamed(rebinding)
            self._sessions[digest] = (renamed, rebound)
        return rebound is not data or renamed is not record

    async def _rotate(self, id: str, new_id: str, rebinding: Rebinding | None) -> SessionInfo:
        digest, new_digest = records.digest(id), records.digest(new_id)
        with self._guard:
            if (found := self._found(digest)) is None:
                raise SessionNotFound("no live session has this id")
            if self._live(new_digest):
                raise SessionConflict("a live session already has the new id")
            record, data = found
            if rebinding is not None:
                data = rebinding.data(data)
                record = record.renamed(rebinding)
            self._delete(new_digest)
            del self._sessions[digest]
            self._sessions[new_digest] = (record, data)
            self._forward(digest, new_digest)
        info = record.info(new_digest)
        await self._events.rotated(info, digest)
        return info

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        records.refuse_both(subject, label)
        with self._guard:
            if subject is not None:
                chosen = self._of(records.checked_subject(subject))
            else:
                chosen = sorted(self._sessions) if label is None else self._labelled(label)
        for digest in chosen:
            if found := self._live(digest):
                yield found[0].info(digest)

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        self._refuse(connection)
        own = None if keep is None else records.digest(keep)
        with self._guard:
            kept = (own, None if own is None else self._newest(own)[1])
            ended = [digest for digest in self._of(records.checked_subject(subject)) if digest not in kept]
            for digest in ended:
                self._delete(digest, "revoked")
        await self._events.revoked(subject, ended)
        return len(ended)

    async def revoke_label(self, label: str) -> int:
        with self._guard:
            ended = self._labelled(label)
            for digest in ended:
                self._delete(digest, "revoked")
        await self._events.invalidated(ended)
        return len(ended)

    async def revoke_all(self, before: datetime | None = None) -> int:
        time = None if before is None else records.from_datetime(records.moment("before", before))
        with self._guard:
            ended = self._all(lambda record: time is None or record.created_at < time)
            for digest in ended:
                self._delete(digest, "revoked")
        await self._events.invalidated(ended)
        self._events.revoked_all(len(ended))
        return len(ended)

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        self._refuse(connection)
        digest = records.key_digest(key)
        if digest is None or not self._end(digest, "revoked"):
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

    async def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        own = None if subject is None else records.checked_subject(subject)
        first = None if since is None else records.moment("since", since)
        with self._guard:
            found = [
                each
                for each in self._records
                if own in (None, each.subject) and (first is None or each.ended_at >= first)
            ]
        for each in sorted(found, key=lambda each: (each.ended_at, each.key), reverse=True):
            yield each

    async def forget_ended(self, subject: str) -> int:
        records.checked_subject(subject)
        with self._guard:
            count = [each.subject for each in self._records].count(subject)
            expired = self._purge(self._now())
            self._records = [each for each in self._records if each.subject != subject]
        await self._events.expired(expired)
        return count

    async def rename_ended(self, name: Callable[[str], str]) -> int:
        with self._guard:
            renamed = [records.renamed(each, name) for each in self._records]
            changed = [*map(ne, renamed, self._records)].count(True)
            self._records = renamed
        return changed

    def _refuse(self, connection: Any) -> None:
        if connection is not None:
            raise self._unsupported("to end sessions in a transaction")

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

    def _labelled(self, label: str) -> list[bytes]:
        records.checked_label(label)
        return self._all(lambda record: label in records.decoded_labels(record.labels))

    def _all(self, chosen: Callable[[Record], bool]) -> list[bytes]:
        """The live sessions that are chosen, by key."""
        return [
            digest for digest in sorted(self._sessions) if (found := self._live(digest)) and chosen(found[0])
        ]

    def _bytes_with(self, digest: bytes, data: bytes) -> int:
        old = self._sessions.get(digest)
        return self._bytes + len(data) - (len(old[1]) if old else 0)

    def _fits(self, digest: bytes, data: bytes) -> bool:
        return self._max_bytes is None or self._bytes_with(digest, data) <= self._max_bytes

    def _end(self, digest: bytes, reason: EndReason) -> bool:
        """Delete a session if it lives: an expired one is left to the purge, which reports it."""
        with self._guard:
            if live := self._live(digest) is not None:
                self._delete(digest, reason)
                self._forward(digest, None)
        return live

    def _delete(self, digest: bytes, reason: EndReason | None = None) -> None:
        if old := self._sessions.pop(digest, None):
            self._bytes -= len(old[1])
            if reason and self._keep_ended is not None and not is_reserved(old[0].subject):
                self._records.append(old[0].end(digest, reason, self._now()))

    def _newest(self, digest: bytes) -> tuple[int | None, bytes]:
        """When an id was given up within the last minute, and the newest one that the session had."""
        given_up, since = None, self._now() - records.FORWARDING
        while (moved := self._moved.get(digest)) and moved[0] >= since:
            given_up = given_up or moved[0]
            if moved[1] is None:
                break
            digest = moved[1]
        return given_up, digest

    def _forward(self, digest: bytes, new_digest: bytes | None) -> None:
        """Note where a session went, None if it ended, and forget what is older than a minute."""
        now = self._now()
        if new_digest is not None:
            self._moved.pop(new_digest, None)  # or two moves there and back would lead in a circle
        self._moved.pop(digest, None)
        self._moved[digest] = now, new_digest
        while (oldest := next(iter(self._moved.items())))[1][0] < now - records.FORWARDING:
            del self._moved[oldest[0]]

    def _purge(self, now: int, most: int | None = None) -> list[bytes]:
        with self._guard:
            expired = [digest for digest, (record, _) in self._sessions.items() if not record.live(now)]
            for digest in expired[:most]:
                self._delete(digest, "expired")
            if self._keep_ended is not None:
                first = records.as_datetime(now - self._keep_ended)
                self._records = [each for each in self._records if each.ended_at > first]
        return expired[:most]
