"""`CacheStorage`: keeps recently used sessions of another storage in this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from typing import Any, TypeVar, Unpack

from .. import records
from .._tasks import finish, retrieve_exception
from ..channels import (
    Bytes,
    ByteWriteChannel,
    Consumer,
    Provider,
    consume,
    provide,
    providing,
)
from ..delegating import DelegatingStorage, WriteOptions, layers
from ..errors import InvalidArgumentType, SessionNotFound
from ..info import JoinedTransaction, Rebinding, SessionInfo, Snapshot
from ..storage import DEFAULT, Default, Duration, Keep, SessionStorage
from .bus import Bus, HasBus, subscribed
from .entries import CacheStatistics, Entries, Entry, Flight, kept, of_subject, repeats, same_version
from .loads import Loads

__all__ = ["CacheStatistics", "CacheStorage"]

T = TypeVar("T")
R = TypeVar("R")


class _Unchanged(Exception):
    """Breaks off a write of the data that the cache already holds."""


class CacheStorage(DelegatingStorage):
    """A cache over any storage, bounded by bytes, the least recently used session going first.

    What goes through this cache is never served stale: a load that was under way when its session
    was written or ended is not kept. What other processes write or end is seen by the bus of the
    database, and within ``max_staleness`` in any case: an entry older than that is compared by its version
    with the storage beneath before it is served, and its data is loaded again only if that changed. While
    the bus is down, late or not proven, every entry is; after that the cache starts empty.

    A write that repeats the cached bytes becomes a touch, if the delegate still has the cached
    version; the `SessionInfo` then shows the old version. Concurrent misses of one session share
    one load.

    Over a plain `SessionStorage` the three verbs and their byte forms work; what needs more raises
    `UnsupportedOperation`.

    Args:
        delegate: The storage beneath; closed with the cache.
        idle_timeout: Seconds after its last use that an entry is dropped.
        max_staleness: Seconds for which an entry is served unchecked, and so the longest that the end of a
            session by another process goes unnoticed. 2 seconds unless set.
        strict: Whether to check an entry each time that it is served: then it is never stale.
        bus: Carries notices between processes. That of the database of a `SqlSessionStorage` beneath, unless
            set; None does without. One that is given is closed with the cache.
        max_bytes: Bound on the data of all entries together. 64 MiB unless set.
        max_entry_bytes: Larger sessions stream past the cache. 1 MiB unless set, or ``max_bytes`` if
            that is less.
        max_entries: Bound on their number, since an entry has a cost besides its data.
        clock: Gives the time in seconds; by default the delegate's own clock if it has one.
    """

    def __init__(
        self,
        delegate: SessionStorage,
        *,
        idle_timeout: Duration = 60.0,
        max_staleness: Duration = 2.0,
        strict: bool = False,
        bus: Bus | Default | None = DEFAULT,
        max_bytes: int = 64 * 1024 * 1024,
        max_entry_bytes: int | None = None,
        max_entries: int = 65_536,
        clock: records.Clock | None = None,
    ) -> None:
        super().__init__(delegate)
        if clock is not None:
            self.clock = clock
        if not (bus is None or bus is DEFAULT or isinstance(bus, Bus)):
            raise InvalidArgumentType(f"bus must be a Bus or None, not {type(bus).__name__}")
        self._owns_bus = isinstance(bus, Bus)
        self._bus = _bus_of(delegate) if bus is DEFAULT else bus
        most = records.positive("max_bytes", max_bytes)
        self._entry_limit = min(
            most,
            1024 * 1024 if max_entry_bytes is None else records.positive("max_entry_bytes", max_entry_bytes),
        )
        self._entries = Entries(
            idle_timeout=records.required_duration("idle_timeout", idle_timeout),
            max_staleness=0 if strict else records.required_duration("max_staleness", max_staleness),
            max_bytes=most,
            max_entries=records.positive("max_entries", max_entries),
            clock=self.clock,
            bus=self._bus,
        )
        self._digest = self.digest
        if self._bus is not None:
            self._bus.subscribe(self._entries)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loads = Loads(self._entries, delegate, self._entry_limit, self._track)

    @property
    def statistics(self) -> CacheStatistics:
        """Counters so far, and the present contents."""
        return self._entries.statistics()

    def subscribe(self, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        return subscribed(self._bus, callback) if self._owns_bus else super().subscribe(callback)

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        entry = await self._find(self._digest(id), id)
        if entry is None:
            return await self._delegate.read(id, consumer)
        return await consume(consumer, entry.data, entry.info)

    async def read_bytes(self, id: str) -> bytes:
        digest = self._digest(id)
        entry = await self._find(digest, id)
        return await self._delegate.read_bytes(id) if entry is None else entry.data

    async def load(self, id: str) -> Snapshot | None:
        digest = self._digest(id)
        delegate = self._managed("load")
        try:
            entry = await self._find(digest, id)
        except SessionNotFound:
            return None
        if entry is None or entry.info is None:
            return await delegate.load(id)
        return Snapshot(entry.data, entry.info)

    async def info(self, id: str) -> SessionInfo | None:
        delegate = self._managed("info")
        entry = self._entries.hit(self._digest(id))
        return entry.info if entry else await delegate.info(id)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        digest = self._digest(id)
        given = self._given(options)
        flight: Flight | None = None
        copy: bytearray | None = bytearray()
        cached: Entry | None = None

        async def tee(channel: ByteWriteChannel) -> None:
            nonlocal flight, copy, cached

            async def sink(piece: bytes) -> None:
                nonlocal copy
                if copy is not None:
                    copy += piece
                    if len(copy) > self._entry_limit:
                        copy = None
                await channel.write(piece)

            await provide(provider, sink)
            cached = self._entries.peek(digest)
            flight = self._entries.begin(digest, mutates=True)  # the delegate may commit from here on
            if copy is not None and repeats(cached, copy, given):
                raise _Unchanged

        async def run() -> SessionInfo:
            info: SessionInfo | None = None
            try:
                try:
                    async with self._capping(given):
                        info = await self._delegate.write(id, tee, **given)
                except _Unchanged:
                    assert cached is not None
                    info = await self._touch_or_write(id, cached, given)
                if flight and copy is not None:
                    self._keep(digest, flight, bytes(copy), info)
                return info
            finally:
                if flight:
                    self._entries.end(digest, flight)
                    await self._publish([] if kept(cached, info) else [digest])

        # Before the provider has ended, nothing has reached the delegate's session.
        return await finish(self._track(run()), may_abandon=lambda: flight is None)

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        provider = providing(data)
        if memoryview(data).nbytes > self._entry_limit:
            return await self.write(id, provider, **options)
        digest, copy = self._digest(id), bytes(data)
        given = self._given(options)
        flight: Flight | None = None

        async def run() -> SessionInfo:
            nonlocal flight
            info: SessionInfo | None = None
            cached = self._entries.peek(digest)
            flight = self._entries.begin(digest, mutates=True)
            try:
                if repeats(cached, copy, given):
                    assert cached is not None
                    info = await self._touch_or_write(id, cached, given)
                else:
                    async with self._capping(given):
                        info = await self._delegate.write_bytes(id, copy, **given)
                self._keep(digest, flight, copy, info)
                return info
            finally:
                self._entries.end(digest, flight)
                await self._publish([] if kept(cached, info) else [digest])

        return await finish(self._track(run()), may_abandon=lambda: flight is None)

    def _keep(self, digest: bytes, flight: Flight, data: bytes, info: object) -> None:
        # A plain storage may return anything.
        self._entries.keep(digest, flight, data, info if isinstance(info, SessionInfo) else None)

    def _capping(self, given: dict[str, Any]) -> AbstractAsyncContextManager[None]:
        """For a write that may end the oldest sessions of a subject: keep none of them, and tell of them."""
        if self.max_sessions_per_subject is None or not isinstance(subject := given.get("subject"), str):
            return nullcontext()
        return self._sweeping(subject)

    @asynccontextmanager
    async def _sweeping(self, subject: str) -> AsyncIterator[None]:
        # The bus of a database tells by itself what a write ended.
        listed = await self._listed(self._managed("sessions").sessions(subject)) if self._owns_bus else []
        try:
            with self._entries.sweeping(of_subject(subject)):
                yield
        finally:
            await self._publish(listed)

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        digest = self._digest(id)
        info = await super().touch(id, ttl=ttl)
        self._entries.refresh(digest, info)
        return info

    async def invalidate(self, id: str) -> None:
        await self._mutate([self._digest(id)], super().invalidate(id))

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        delegate = self._managed("invalidate_key")
        if connection is not None:
            return await delegate.invalidate_key(key, connection=JoinedTransaction(connection, self._ending))
        return await self._mutate(records.key_digests([key]), delegate.invalidate_key(key))

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        write = self._managed("write_key").write_key(key, data, if_match=if_match)
        return await self._mutate(records.key_digests([key]), write)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        digests = [self._digest(id), self._digest(new_id)]
        return await self._mutate(digests, self._managed("rotate").rotate(id, new_id))

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        digests = [self._digest(id), self._digest(new_id)]
        return await self._mutate(digests, self._managed("rotate_with").rotate_with(id, new_id, rebinding))

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        return await self._mutate(records.key_digests([key]), self._managed("rebind").rebind(key, rebinding))

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        delegate = self._managed("revoke")
        if connection is not None:
            joined = JoinedTransaction(connection, self._ending)
            return await delegate.revoke(subject, keep=keep, connection=joined)
        # The cache may hold a session as it was before another process changed it.
        listed = await self._listed(delegate.sessions(records.checked_subject(subject)))
        return await self._ended(delegate.revoke(subject, keep=keep), of_subject(subject), listed)

    async def revoke_label(self, label: str) -> int:
        delegate = self._managed("revoke_label")
        listed = await self._listed(delegate.sessions(label=records.checked_label(label)))
        return await self._ended(delegate.revoke_label(label), lambda info: label in info.labels, listed)

    async def revoke_all(self, before: datetime | None = None) -> int:
        delegate = self._managed("revoke_all")
        # The bus of a database tells of it by itself.
        listed = await self._listed(delegate.sessions()) if self._owns_bus else []
        return await self._ended(delegate.revoke_all(before), None, listed)

    async def aclose(self) -> None:
        """Drop every entry and close the delegate."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(t for t in self._tasks if t.get_loop() is loop), return_exceptions=True)
        self._entries.clear()
        if self._bus is not None:
            self._bus.unsubscribe(self._entries)
            if self._owns_bus:
                await self._bus.aclose()
        await super().aclose()

    async def _listed(self, sessions: AsyncIterator[SessionInfo]) -> list[bytes]:
        return [bytes.fromhex(info.key) async for info in sessions]

    async def _find(self, digest: bytes, id: str) -> Entry | None:
        return self._entries.hit(digest) or await self._loads.load(digest, id)

    async def _touch_or_write(self, id: str, cached: Entry, options: dict[str, Any]) -> SessionInfo:
        """Touch the session if it still has the cached version; else write the data after all."""
        delegate = self._managed("touch")
        # A write that is to end in a conflict must not touch another's version before.
        info = await delegate.info(id) if "if_match" in options else cached.info
        if same_version(info, cached.info):
            info = await delegate.touch(id)
            if info is not None and same_version(info, cached.info):
                return info
        return await delegate.write_bytes(id, cached.data, **options)

    def _ending(self, keys: Collection[str]) -> Callable[[], Coroutine[Any, Any, None]]:
        """Keep nothing of sessions that end with a transaction, until it is over."""
        digests = [bytes.fromhex(key) for key in keys]
        flights = [(digest, self._entries.begin(digest, mutates=True)) for digest in digests]

        async def over() -> None:
            for digest, flight in flights:
                self._entries.end(digest, flight)
            await self._publish(digests)

        return over

    async def _mutate(self, digests: list[bytes], operation: Coroutine[Any, Any, T]) -> T:
        async def run() -> T:
            flights = [(digest, self._entries.begin(digest, mutates=True)) for digest in digests]
            try:
                return await operation
            finally:
                for digest, flight in flights:
                    self._entries.end(digest, flight)
                await self._publish(digests)

        # If a cancelled caller gives up waiting, the flight stays open, so that no load keeps what it read.
        return await finish(self._track(run()))

    async def _ended(
        self,
        operation: Coroutine[Any, Any, int],
        chosen: Callable[[SessionInfo], bool] | None,
        listed: list[bytes],
    ) -> int:
        """End many sessions, of which none is kept, and tell of those that were listed before."""

        async def run() -> int:
            try:
                with self._entries.sweeping(chosen, listed):
                    return await operation
            finally:
                await self._publish(listed)

        return await finish(self._track(run()))

    async def _publish(self, digests: list[bytes]) -> None:
        """Tell other processes of a change that may have taken effect, before its caller knows."""
        if self._bus is not None and digests:
            await self._bus.publish(digests)

    def _track(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(retrieve_exception)
        return task


def _bus_of(storage: SessionStorage) -> Bus | None:
    """The bus of the database beneath a storage, through layers."""
    *_, innermost = layers(storage)
    return innermost.bus() if isinstance(innermost, HasBus) else None
