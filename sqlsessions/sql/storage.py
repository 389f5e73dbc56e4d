"""`SqlSessionStorage`: sessions in a SQL database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from .. import records
from ..channels import Consumer, Provider, consume, provide
from ..errors import InvalidArgument, SessionChanged, SessionConflict, SessionNotFound
from ..events import Events, Hook
from ..info import SessionInfo, Snapshot, Successor
from ..purging import Purged, Purging
from ..records import Clock, Lifetime, Options, Record
from ..storage import DEFAULT, KEEP, Bytes, Default, Duration, Keep, ManagedSessionStorage, providing
from .batching.operations import Row
from .dialects import Settings
from .drivers import driver_for
from .engine.database import Database
from .purge import Purge, count_expired
from .purge_lease import purge_lease
from .replica import Replica
from .repository import DATA, PAGE, SessionRepository, record_of
from .staging import Incoming, Limits, Staging, copy

R = TypeVar("R")

TOUCH_ATTEMPTS = 5
KEYS_PER_STATEMENT = 256
LONGEST_RETRY = 30.0  # seconds; after a minute its tombstone may be gone, and an outcome cannot be resolved


class SqlSessionStorage(ManagedSessionStorage):
    """Keeps sessions in the tables that ``sqlsessions upgrade`` makes.

    A session of up to ``inline_limit`` bytes is one SELECT to read and one upsert to write (on MySQL,
    which has no RETURNING, a short transaction). A larger one is staged in chunks while the provider
    runs. No connection, transaction or lock is held while a provider or consumer runs its own code.

    Acknowledged means committed, as durably as the database is set up to be. When a connection is
    lost, the storage looks whether its own write took effect, and retries it if not.

    Args:
        url_or_engine: A database URL (SQLite, PostgreSQL, MariaDB or MySQL), for which engines are
            opened, one for each event loop, and closed with the storage; or the caller's
            `AsyncEngine`, which is neither disposed of nor reconfigured and serves one event loop
            unless its pool is a `NullPool`. A SQLite URL without a file makes a new database in
            memory, with its tables.
        read_url: A replica of a PostgreSQL database, from which sessions are read once it has what this
            storage wrote. What other processes wrote or ended is seen there later; a session that it does
            not have is looked for on the primary. None, the default, reads from the primary.
        ttl: Idle timeout of new sessions, in seconds or as a timedelta; None is never. 14 days
            unless set.
        max_age: Their absolute timeout; None, the default, is never.
        clock: Gives the time in seconds since 1970 UTC. All services on one database need clocks
            that agree to within a few seconds.
        inline_limit: The most bytes kept in the session's own row. 64 KiB unless set.
        chunk_size: Bytes of a chunk of a larger session, at least ``inline_limit``. 256 KiB unless
            set; a read takes about four times, a write about twice this much memory.
        max_size: The most bytes of a session; a larger one raises `SessionTooLarge` as soon as the
            limit is passed. None, the default, is no limit.
        pool_size: Connections for each event loop at most; for a URL. 5 unless set.
        pool_timeout: Seconds to wait for one of them. 30 unless set.
        connect_timeout: Seconds to wait for a new connection. 10 unless set.
        synchronous: SQLite's setting of that name, FULL or NORMAL; for a URL. With NORMAL, a power
            loss may take back the last commits.
        operation_timeout: Seconds that a statement or transaction of ours may take on a server before its
            connection is given up as dead; None waits for ever. 30 unless set.
        retry_for: Seconds for which an operation is tried again after a deadlock, a lost or a refused
            connection; 0 tries once, 30 is the most. 5 unless set.
        busy_timeout: Seconds that SQLite waits for another process's write; for a URL. 10 unless set.
        engine_options: More arguments of `create_async_engine`; for a URL. Its ``connect_args`` are added
            to ours. Isolation, reset and creator are the storage's own, and refused.
        on_created: Called with a `SessionEvent` after a session has begun, once for each; a function or
            an async function. What it raises is logged and harms nothing.
        on_rotated: The same for a session that got a new id.
        on_invalidated: The same for a live session that was ended, also by `revoke`.
        on_expired: The same for an expired session that `purge` deleted.
        log_salt: Salt of the hashes in the security log, at least 16 bytes and secret; with the same one,
            the logs of several processes can be correlated. Random unless set.

    Raises:
        InvalidArgument: If an argument is out of its range, the URL is of no supported database, or
            its driver is not installed.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        url_or_engine: str | URL | AsyncEngine,
        *,
        read_url: str | URL | None = None,
        ttl: Duration | None = records.TWO_WEEKS,
        max_age: Duration | None = None,
        clock: Clock = time.time,
        inline_limit: int = 64 * 1024,
        chunk_size: int = 256 * 1024,
        max_size: int | None = None,
        pool_size: int = 5,
        pool_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        operation_timeout: float | None = 30.0,
        retry_for: float = 5.0,
        synchronous: str = "FULL",
        busy_timeout: float = 10.0,
        engine_options: Mapping[str, Any] | None = None,
        on_created: Hook | None = None,
        on_rotated: Hook | None = None,
        on_invalidated: Hook | None = None,
        on_expired: Hook | None = None,
        log_salt: bytes | None = None,
    ) -> None:
        self.clock = clock
        self._limits = Limits(
            inline=records.positive("inline_limit", inline_limit),
            chunk=records.positive("chunk_size", chunk_size),
            size=None if max_size is None else records.positive("max_size", max_size),
        )
        self._at_once = self._limits.at_once
        if chunk_size < inline_limit:
            raise InvalidArgument("chunk_size must be at least inline_limit")
        if not isinstance(synchronous, str) or synchronous.upper() not in ("FULL", "NORMAL"):
            raise InvalidArgument(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        settings = Settings(
            pool_size=records.positive("pool_size", pool_size),
            pool_timeout=records.seconds("pool_timeout", pool_timeout),
            connect_timeout=records.seconds("connect_timeout", connect_timeout),
            synchronous=synchronous.upper(),
            busy_timeout=records.seconds("busy_timeout", busy_timeout),
            operation_timeout=(
                None if operation_timeout is None else records.seconds("operation_timeout", operation_timeout)
            ),
            retry_for=0.0 if retry_for == 0 else records.seconds("retry_for", retry_for, LONGEST_RETRY),
        )
        lifetime = Lifetime.checked(ttl, max_age)
        self._events = Events(
            on_created=on_created,
            on_rotated=on_rotated,
            on_invalidated=on_invalidated,
            on_expired=on_expired,
            salt=log_salt,
        )
        self._database = Database(url_or_engine, settings, engine_options or {})
        driver = driver_for(self._database)
        self._staging = Staging(self._database, driver)
        self._replica = None
        if read_url is not None:
            if not self._database.dialect.replicas:
                raise InvalidArgument(
                    "read_url needs a PostgreSQL database: other databases do not report replication lag"
                )
            hurried = replace(settings, retry_for=0.0)  # the primary is there
            self._replica = Replica(Database(read_url, hurried, engine_options or {}), self._database)
        self._repository = SessionRepository(
            self._database, driver, clock, lifetime, self._events, self._replica
        )

    @property
    def engine(self) -> AsyncEngine:
        """The engine that serves the running event loop."""
        return self._database.engine

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

    async def _write(self, digest: bytes, provider: Provider, options: Options) -> SessionInfo:
        version = self._repository.next_version()
        incoming = Incoming(self._staging, digest, version, self._limits)
        try:
            await provide(provider, incoming.add)
            await incoming.finish()
        except BaseException:
            incoming.discard()
            raise
        if (data := incoming.inline) is not None:
            return await self._written(digest, await self._repository.write_inline(digest, data, options))
        try:
            record = await self._repository.replace(
                digest, options, version=version, size=incoming.size, data=None, staged=incoming.chunks
            )
        except (SessionConflict, SessionChanged):
            incoming.discard()
            raise
        return await self._written(digest, record)

    async def write_bytes(
        self,
        id: str,
        data: Bytes,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        options = Options.checked(ttl, max_age, subject, if_match)
        return await self._write_bytes(records.digest(id), data, options)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        options = Options.over(if_match)
        if (digest := records.key_digest(key)) is None:
            raise SessionConflict("no live session has this key: it is no key")
        return await self._write_bytes(digest, data, options)

    async def _write_bytes(self, digest: bytes, data: Bytes, options: Options) -> SessionInfo:
        if isinstance(data, (bytes, bytearray)) and len(data) <= self._at_once:
            record = await self._repository.write_inline(digest, bytes(data), options)
            if record.created_at != record.updated_at:
                return record.info(digest)
            return await self._written(digest, record)
        return await self._write(digest, providing(data), options)

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        return await self._read(records.digest(id), consumer)

    async def read_key(self, key: str, consumer: Consumer[R]) -> R:
        """Read a listed session, by its `SessionInfo.key`; else as `read`. For administrators.

        Raises:
            SessionNotFound: If no live session has this key.
        """
        if (digest := records.key_digest(key)) is None:
            raise SessionNotFound("no live session has this key: it is no key")
        return await self._read(digest, consumer)

    async def _read(self, digest: bytes, consumer: Consumer[R]) -> R:
        row = await self._repository.select(digest)
        record, data = record_of(row), row[DATA]
        source = self._staging.stream(digest, record) if data is None else data
        return await consume(consumer, source, record.info(digest))

    async def read_bytes(self, id: str) -> bytes:
        digest = records.digest(id)
        row = await self._repository.select(digest)
        data: bytes | None = row[DATA]
        return await self._streamed(digest, row) if data is None else data

    async def load(self, id: str) -> Snapshot | None:
        return await self._load(records.digest(id))

    async def load_key(self, key: str) -> Snapshot | None:
        return None if (digest := records.key_digest(key)) is None else await self._load(digest)

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        digests, found = records.key_digests(keys), dict[bytes, Record]()
        for start in range(0, len(digests), KEYS_PER_STATEMENT):
            found |= await self._repository.records(digests[start : start + KEYS_PER_STATEMENT])
        return {digest.hex(): record.info(digest) for digest, record in found.items()}

    async def successor(self, id: str) -> Successor | None:
        if (found := await self._repository.forwarding(records.digest(id))) is None:
            return None
        digest, record = found
        self._events.moved(records.digest(id), digest)
        return Successor(digest.hex(), None if record is None else record.info(digest))

    async def _load(self, digest: bytes) -> Snapshot | None:
        try:
            row = await self._repository.select(digest)
        except SessionNotFound:
            return None
        data = await self._streamed(digest, row) if row[DATA] is None else row[DATA]
        return Snapshot(data, record_of(row).info(digest))

    async def info(self, id: str) -> SessionInfo | None:
        digest = records.digest(id)
        record = await self._repository.record(digest)
        return None if record is None else record.info(digest)

    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        digest = records.digest(id)
        idle = ttl if ttl is DEFAULT else records.duration("ttl", ttl)
        for _ in range(TOUCH_ATTEMPTS):
            if (record := await self._repository.record(digest)) is None:
                return None
            touched = record.touched(self._repository.now(), idle)
            if touched is record or await self._repository.touch(digest, record, touched):
                return touched.info(digest)
        return await self.info(id)  # others write or touch it all the time, which extends it too

    async def invalidate(self, id: str) -> None:
        digest = records.digest(id)
        if await self._repository.delete(digest):
            await self._events.invalidated([digest])

    async def invalidate_key(self, key: str) -> bool:
        digest = records.key_digest(key)
        if digest is None or not await self._repository.delete(digest):
            return False
        await self._events.invalidated([digest])
        return True

    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        kept = None if keep is None else records.digest(keep)
        ended: list[bytes] = []
        try:
            await self._repository.revoke(ended, records.checked_subject(subject), kept)
        except Exception:
            await self._events.invalidated(ended)  # by the pages before
            raise
        await self._events.revoked(subject, ended)
        return len(ended)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        digest, new_digest = records.digest(id), records.digest(new_id)
        try:
            result = await self._repository.move(digest, new_digest, None)
            while not isinstance(result, Record):  # large, and not copied as it is now
                await copy(self._database, result.record, digest, new_digest, self._repository.now())
                result = await self._repository.move(digest, new_digest, result.record)
        except SessionNotFound:
            self._events.unknown(digest)
            raise
        info = result.info(new_digest)
        await self._events.rotated(info, digest)
        return info

    async def sessions(self, subject: str | None = None) -> AsyncIterator[SessionInfo]:
        if subject is not None:
            records.checked_subject(subject)
        page = await self._repository.page(subject, None)
        while page:
            for digest, record in page:
                yield record.info(digest)
            page = await self._repository.page(subject, page[-1]) if len(page) == PAGE else []

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        records.positive("batch_size", batch_size, records.MAX_BATCH)
        if max_batches is not None:
            records.positive("max_batches", max_batches)
        steps = self._purge(batch_size, max_batches).steps()
        return sum([step.sessions async for step in steps])

    def purging(
        self,
        *,
        every: Duration = 300.0,
        batch_size: int = 1000,
        progress: Callable[[Purged], None] | None = None,
    ) -> Purging:
        return Purging(
            lambda size: self._purge(size).steps(),
            lease=partial(purge_lease, self._database),
            every=every,
            batch_size=batch_size,
            progress=progress,
        )

    def _purge(self, batch_size: int, max_batches: int | None = None) -> Purge:
        on_expired = self._events.expired if self._events.wants_expired else None
        return Purge(self._database, self._repository.now, batch_size, max_batches, on_expired)

    async def count_expired(self) -> int:
        """Count the expired sessions that are not purged yet."""
        return await count_expired(self._database, self._repository.now())

    async def aclose(self) -> None:
        """Finish what is under way and close the connections; the caller's engine stays open."""
        if self._replica is not None:
            await self._replica.aclose()
        await self._database.engines.aclose()

    async def _written(self, digest: bytes, record: Record) -> SessionInfo:
        info = record.info(digest)
        if record.created_at == record.updated_at:
            await self._events.created(info)
        return info

    async def _streamed(self, digest: bytes, row: Row) -> bytes:
        return b"".join([piece async for piece in self._staging.stream(digest, record_of(row))])
