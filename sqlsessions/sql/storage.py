"""`SqlSessionStorage`: sessions in a SQL database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypeVar, Unpack

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from .. import records
from .._digests import Digests
from .._keys import Keys
from ..cache.bus import Bus, subscribed
from ..channels import Bytes, Consumer, Provider, consume
from ..ended import KeepsEnded
from ..errors import SessionConflict, SessionNotFound
from ..events import Events, Hook
from ..info import EndedSession, Rebinding, SessionInfo, Snapshot, Successor
from ..purging import Purged, Purging
from ..records import Clock, Lifetime, Options
from ..storage import DEFAULT, KEEP, Default, Duration, Keep, ManagedSessionStorage
from ..values import WriteOptions
from .accepted import Accepted
from .batching.operations import Row
from .bus import bus_of
from .dialects import Settings
from .drivers import driver_for
from .engine.database import Database
from .joining import CallersTransactions
from .purge import Purge, count_expired
from .purge_lease import purge_lease
from .replica import replica_of
from .repository import SessionRepository
from .staging import Limits, Staging
from .statements.listing import PAGE
from .statements.single import DATA, record_of
from .writing import Writer

R = TypeVar("R")


class SqlSessionStorage(ManagedSessionStorage, KeepsEnded):
    """Keeps sessions in the tables that ``sqlsessions upgrade`` makes.

    A session of up to ``inline_limit`` bytes is one SELECT to read and one upsert to write (on MySQL, which has no
    RETURNING, a short transaction). A larger one is staged in chunks while the provider runs. No connection,
    transaction or lock is held while a provider or consumer runs its own code.

    Acknowledged means committed, as durably as the database is set up to be. When a connection is lost, the
    storage looks whether its own write took effect, and retries it if not.

    Args:
        url_or_engine: A database URL (SQLite, PostgreSQL, MariaDB or MySQL), for which engines are opened,
            one for each event loop, and closed with the storage; or the caller's `AsyncEngine`, which is
            neither disposed of nor reconfigured and serves one event loop unless its pool is a `NullPool`. A
            SQLite URL without a file makes a new database in memory, with its tables.
        read_url: A replica of a PostgreSQL database, from which sessions are read once it has what this
            storage wrote. What other processes wrote or ended is seen there later; a session that it does
            not have is looked for on the primary. None, the default, reads from the primary.
        direct_url: The same PostgreSQL server without its pooler, through which no notices of changes come.
        ttl: Idle timeout of new sessions, in seconds or as a timedelta; None is never. 14 days unless set.
        max_age: Their absolute timeout; None, the default, is never.
        clock: Gives the time in seconds since 1970 UTC, the same for all services on a database to within seconds.
        inline_limit: The most bytes kept in the session's own row. 64 KiB unless set.
        chunk_size: Bytes of a chunk of a larger session, at least ``inline_limit``. 256 KiB unless set; a
            read takes about four times, a write about twice this much memory.
        max_size: The most bytes of a session; a larger one raises `SessionTooLarge`. None, the default, is any.
        pool_size: Connections for each event loop at most; for a URL. 5 unless set.
        pool_timeout: Seconds to wait for one of them. 30 unless set.
        connect_timeout: Seconds to wait for a new connection. 10 unless set.
        synchronous: SQLite's setting of that name, FULL or NORMAL; for a URL. With NORMAL, a power loss may
            take back the last commits.
        touch_every: How often at least a touch notes that a session is used, in `SessionInfo.used_at`, though the expiry
            gains little. None, the default, is once per 5 % of the idle timeout.
        durable_touches: Whether a touch is on the disk once it is acknowledged. With False, on PostgreSQL a crash of the
            server may take back the last ones, which costs some idle time and nothing else.
        operation_timeout: Seconds that a statement or transaction of ours may take on a server before its
            connection is given up as dead; None waits for ever. 30 unless set.
        retry_for: Seconds for which an operation is tried again after a deadlock, a lost or a refused
            connection; 0 tries once, 30 is the most. 5 unless set.
        busy_timeout: Seconds that SQLite waits for another process's write; for a URL. 10 unless set.
        engine_options: More arguments of `create_async_engine`; for a URL. Its ``connect_args`` are added to
            ours. Isolation, reset and creator are the storage's own, and refused.
        on_created: Called with a `SessionEvent` after a session has begun, once for each; a function or an
            async function. What it raises is logged and harms nothing.
        on_rotated: The same for a session that got a new id.
        on_invalidated: The same for a live session that was ended, also by `revoke`.
        on_expired: The same for an expired session that `purge` deleted.
        log_salt: Salt of the hashes in the security log, 16 secret bytes or more, for processes to share; or random.
        max_sessions_per_subject: The most live sessions of a subject, counted whenever a write names the subject: exactly,
            if each process has the same. None, the default, is any number.
        when_too_many: "end_oldest", the default, or "refuse", by `TooManySessions`.
        keep_ended: How long records of sessions that have ended are kept, the same in all processes. None keeps none.
        namespace: Keeps services on one database apart: their ids, subjects and lists. None is a service by itself.
        keys: One secret key of 32 bytes, in a list: ids are kept as HMAC under it, to be neither tested nor planted.
        accept: Pairs of an earlier namespace and keys, each may be None, under which sessions are found, and moved, too.

    Raises:
        InvalidArgument: If an argument is out of its range, the URL is of no supported database, or its driver is missing.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        url_or_engine: str | URL | AsyncEngine,
        *,
        read_url: str | URL | None = None,
        direct_url: str | URL | None = None,
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
        touch_every: Duration | None = None,
        durable_touches: bool = True,
        busy_timeout: float = 10.0,
        engine_options: Mapping[str, Any] | None = None,
        on_created: Hook | None = None,
        on_rotated: Hook | None = None,
        on_invalidated: Hook | None = None,
        on_expired: Hook | None = None,
        log_salt: bytes | None = None,
        max_sessions_per_subject: int | None = None,
        when_too_many: Literal["end_oldest", "refuse"] = "end_oldest",
        keep_ended: Duration | None = None,
        namespace: str | None = None,
        keys: Keys | None = None,
        accept: Sequence[tuple[str | None, Keys | None]] = (),
    ) -> None:
        self.clock = clock
        self._digests = Digests(namespace, keys, accept)
        self._limits = Limits.checked(inline_limit, chunk_size, max_size)
        self.max_size = self._limits.size
        settings = Settings.checked(
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            connect_timeout=connect_timeout,
            synchronous=synchronous,
            busy_timeout=busy_timeout,
            operation_timeout=operation_timeout,
            retry_for=retry_for,
            largest_value=chunk_size,
            durable_touches=durable_touches,
        )
        lifetime = Lifetime.checked(ttl, max_age, touch_every)
        self.default_ttl, self.touch_every = lifetime.default_ttl, lifetime.touch_every
        cap = records.Cap.checked(max_sessions_per_subject, when_too_many)
        self.max_sessions_per_subject = cap and cap.most
        self._events = Events(
            on_created=on_created,
            on_rotated=on_rotated,
            on_invalidated=on_invalidated,
            on_expired=on_expired,
            salt=log_salt,
        )
        engine_options = {} if engine_options is None else engine_options
        self._database = Database(url_or_engine, settings, engine_options)
        self._bus = bus_of(self._database, direct_url, settings, engine_options)
        driver = driver_for(self._database)
        self._staging = Staging(self._database, driver)
        self._replica = replica_of(self._database, read_url, settings, engine_options)
        prefixes = self._digests.prefixes
        self._repository = SessionRepository(
            self._database, driver, clock, lifetime, self._events, self._replica, prefixes, cap, keep_ended
        )
        self._select_data = partial(self._repository.select, part="data")
        self._joined = CallersTransactions(self._database, self._repository.ending, self._repository.pin)
        self._writer = Writer(self._repository, self._staging, self._limits, self._events)
        self._accepted = Accepted(self._digests, self._repository)
        self.rebind_moved = self._accepted.rebind_moved

    def bus(self) -> Bus | None:
        """What tells this process of sessions that others change; None where the database has no such thing."""
        return self._bus

    def subscribe(self, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        return subscribed(self._bus, callback)

    @property
    def digest(self) -> Callable[[str], bytes]:
        return self._digests.of

    @property
    def engine(self) -> AsyncEngine:
        """The engine that serves the running event loop."""
        return self._database.engine

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        checked = Options.checked(**options)
        return await self._writer.write(await self._accepted.here(id), provider, checked)

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        checked = Options.checked(**options)
        return await self._writer.write_bytes(await self._accepted.here(id), data, checked)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        options = Options.over(if_match)
        if (digest := self._digests.own(key)) is None:
            raise SessionConflict("no live session has this key: it is no key")
        return await self._writer.write_bytes(digest, data, options)

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        return await self._consumed(await self._accepted.at(id, self._repository.select), consumer)

    async def read_key(self, key: str, consumer: Consumer[R]) -> R:
        """Read a listed session, by its `SessionInfo.key`; else as `read`. For administrators.

        Raises:
            SessionNotFound: If no live session has this key.
        """
        if (digest := self._digests.own(key)) is None:
            raise SessionNotFound("no live session has this key: it is no key")
        return await self._consumed(await self._repository.select(digest), consumer)

    async def _consumed(self, row: Row, consumer: Consumer[R]) -> R:
        digest, record, data = bytes(row[0]), record_of(row), row[DATA]
        source = self._staging.stream(digest, record.version, record.size) if data is None else data
        return await consume(consumer, source, record.info(digest))

    async def read_bytes(self, id: str) -> bytes:
        row = await self._accepted.at(id, self._select_data)
        data: bytes | None = row[DATA]
        return await self._staging.joined(row) if data is None else data

    async def load(self, id: str) -> Snapshot | None:
        try:
            row = await self._accepted.at(id, self._repository.select)
        except SessionNotFound:
            return None
        return _snapshot(row, await self._staging.joined(row) if row[DATA] is None else row[DATA])

    async def load_key(self, key: str) -> Snapshot | None:
        if (digest := self._digests.own(key)) is None:
            return None
        try:
            row = await self._repository.select(digest)
        except SessionNotFound:
            return None
        return _snapshot(row, await self._staging.joined(row) if row[DATA] is None else row[DATA])

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        return await self._repository.infos(self._digests.all_own(keys))

    async def successor(self, id: str) -> Successor | None:
        if (found := await self._accepted.forwarding(id)) is None:
            return None
        name, (digest, record, since) = found
        self._events.moved(name, digest)
        return Successor(digest.hex(), record.info(digest) if record else None, records.as_datetime(since))

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:
        return await self._repository.successors(self._digests.all_own(keys))

    async def info(self, id: str) -> SessionInfo | None:
        return await self._accepted.at(id, self._info)

    async def _info(self, digest: bytes) -> SessionInfo | None:
        record = await self._repository.record(digest)
        return None if record is None else record.info(digest)

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        idle = ttl if ttl is DEFAULT or ttl is KEEP else records.duration("ttl", ttl)
        return await self._accepted.at(id, partial(self._writer.touch, idle=idle))

    async def invalidate(self, id: str) -> None:
        if await self._accepted.at(id, self._repository.delete):
            await self._events.invalidated([self._digests.of(id)])

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        if (digest := self._digests.own(key)) is None:
            return False
        if connection is not None:
            one = self._repository.ending.one(digest)
            return bool(await self._joined.end(connection, one, self._events.invalidated))
        if ended := await self._repository.delete(digest, "revoked"):
            await self._events.invalidated([digest])
        return ended

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        kept = None if keep is None else await self._accepted.where(keep)
        ending, ended = self._repository.ending, list[bytes]()
        chosen = ending.of_subject(records.checked_subject(subject), kept)
        if connection is not None:
            return await self._joined.end(connection, chosen, partial(self._events.revoked, subject))
        try:
            await ending.end(ended, chosen)
        except Exception:
            await self._events.invalidated(ended)  # by the pages before
            raise
        await self._events.revoked(subject, ended)
        return len(ended)

    async def revoke_label(self, label: str) -> int:
        return await self._repository.ending.end_labelled(label, self._events.invalidated)

    async def revoke_all(self, before: datetime | None = None) -> int:
        time = None if before is None else records.from_datetime(records.moment("before", before))
        count = await self._repository.ending.end_all(time, self._events.invalidated)
        self._events.revoked_all(count)
        return count

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._rotate(id, new_id, None)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        return await self._rotate(id, new_id, rebinding)

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        digest = self._digests.own(key)
        return digest is not None and await self._repository.rebind(digest, rebinding)

    async def _rotate(self, id: str, new_id: str, rebinding: Rebinding | None) -> SessionInfo:
        digest, new_digest = self._digests.of(id), await self._accepted.here(new_id)
        rotate = partial(self._repository.rotate, new_digest=new_digest, rebinding=rebinding)
        info = (await self._accepted.at(id, rotate)).info(new_digest)
        await self._events.rotated(info, digest)
        return info

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        records.refuse_both(subject, label)
        if label is not None:
            async for page in self._repository.labelled(records.checked_label(label)):
                for digest, record in page:
                    yield record.info(digest)
            return
        subject = None if subject is None else records.checked_subject(subject)
        page = await self._repository.page(subject, None)
        while page:
            for digest, record in page:
                yield record.info(digest)
            page = await self._repository.page(subject, page[-1]) if len(page) == PAGE else []

    def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        return self._repository.keeping.ended(subject, since)

    async def forget_ended(self, subject: str) -> int:
        return await self._purge(records.MAX_BATCH).forget(subject)

    async def rename_ended(self, name: Callable[[str], str]) -> int:
        return await self._repository.keeping.rename(name)

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        most = None if max_batches is None else records.positive("max_batches", max_batches)
        size = records.positive("batch_size", batch_size, records.MAX_BATCH)
        return sum([step.sessions async for step in self._purge(size, most).steps()])

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
        return Purge(self._database, self._repository.keeping, batch_size, max_batches, on_expired)

    async def count_expired(self) -> int:
        """Count the expired sessions that are not purged yet."""
        return await count_expired(self._database, self._repository.now())

    async def aclose(self) -> None:
        """Finish what is under way and close the connections; the caller's engine stays open."""
        if self._bus is not None:
            await self._bus.aclose()
        if self._replica is not None:
            await self._replica.aclose()
        await self._database.engines.aclose()


def _snapshot(row: Row, data: bytes) -> Snapshot:
    return Snapshot(data, record_of(row).info(bytes(row[0])))
