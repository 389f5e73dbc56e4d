"""`CacheStorage`: keeps recently used sessions of another storage in this process's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, Unpack

from .. import records
from .._tasks import finish
from ..channels import ByteReadChannel, ByteWriteChannel, Consumer, Provider, consume, provide
from ..delegating import DelegatingStorage, WriteOptions
from ..errors import SessionNotFound
from ..info import SessionInfo, Snapshot
from ..records import Clock
from ..storage import DEFAULT, Bytes, Default, Duration, SessionStorage, providing
from .entries import CacheStatistics, Entries, Entry, Flight

__all__ = ["CacheStatistics", "CacheStorage"]

T = TypeVar("T")
R = TypeVar("R")


class _Unchanged(Exception):
    """Breaks off a write of the data that the cache already holds."""


class CacheStorage(DelegatingStorage):
    """A cache over any storage, bounded by bytes, the least recently used session going first.

    What goes through this cache is never served stale: a load that was under way when its session
    was written or ended is not kept. Another process's changes are seen once an entry has been idle
    for ``idle_timeout`` or was dropped; where sessions are ended by several processes at once, keep
    it short or do without.

    A write that repeats the cached bytes becomes a touch, if the delegate still has the cached
    version; the `SessionInfo` then shows the old version. Concurrent misses of one session share
    one load.

    Over a plain `SessionStorage` the three verbs and their byte forms work; what needs more raises
    `UnsupportedOperation`.

    Args:
        delegate: The storage beneath; closed with the cache.
        idle_timeout: Seconds after its last use that an entry is dropped.
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
        max_bytes: int = 64 * 1024 * 1024,
        max_entry_bytes: int | None = None,
        max_entries: int = 65_536,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(delegate)
        if clock is not None:
            self.clock = clock
        most = records.positive("max_bytes", max_bytes)
        self._entry_limit = min(
            most,
            1024 * 1024 if max_entry_bytes is None else records.positive("max_entry_bytes", max_entry_bytes),
        )
        self._entries = Entries(
            idle_timeout=records.required_duration("idle_timeout", idle_timeout),
            max_bytes=most,
            max_entries=records.positive("max_entries", max_entries),
            clock=self.clock,
        )
        self._loads: dict[bytes, tuple[asyncio.Task[Entry | None], Flight]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def statistics(self) -> CacheStatistics:
        """Counters so far, and the present contents."""
        return self._entries.statistics()

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        entry = await self._find(records.digest(id), id)
        if entry is None:
            return await self._delegate.read(id, consumer)
        return await consume(consumer, entry.data, entry.info)

    async def read_bytes(self, id: str) -> bytes:
        digest = records.digest(id)
        entry = await self._find(digest, id)
        return await self._delegate.read_bytes(id) if entry is None else entry.data

    async def load(self, id: str) -> Snapshot | None:
        digest = records.digest(id)
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
        entry = self._entries.hit(records.digest(id))
        return entry.info if entry else await delegate.info(id)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        digest = records.digest(id)
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
            if copy is not None and _repeats(cached, copy, given):
                raise _Unchanged

        async def run() -> SessionInfo:
            try:
                try:
                    info: SessionInfo = await self._delegate.write(id, tee, **given)
                except _Unchanged:
                    assert cached is not None
                    info = await self._touch_or_write(id, cached, given)
                if flight and copy is not None:
                    # A plain storage may return anything.
                    known = info if isinstance(info, SessionInfo) else None
                    self._entries.keep(digest, flight, bytes(copy), known)
                return info
            finally:
                if flight:
                    self._entries.end(digest, flight)

        # Before the provider has ended, nothing has reached the delegate's session.
        return await finish(self._track(run()), may_abandon=lambda: flight is None)

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        return await self.write(id, providing(data), **options)

    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        digest = records.digest(id)
        info = await super().touch(id, ttl=ttl)
        self._entries.refresh(digest, info)
        return info

    async def invalidate(self, id: str) -> None:
        await self._mutate([records.digest(id)], super().invalidate(id))

    async def invalidate_key(self, key: str) -> bool:
        digest = records.key_digest(key)
        delegate = self._managed("invalidate_key")
        return await self._mutate([digest] if digest else [], delegate.invalidate_key(key))

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        digest = records.key_digest(key)
        delegate = self._managed("write_key")
        return await self._mutate(
            [digest] if digest else [], delegate.write_key(key, data, if_match=if_match)
        )

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        digests = [records.digest(id), records.digest(new_id)]
        return await self._mutate(digests, self._managed("rotate").rotate(id, new_id))

    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        delegate = self._managed("revoke")
        # The cache may hold a session under a subject that another process has changed since.
        listed = [info.key async for info in delegate.sessions(records.checked_subject(subject))]

        async def run() -> int:
            with self._entries.sweeping(subject, listed):
                return await delegate.revoke(subject, keep=keep)

        return await finish(self._track(run()))

    async def aclose(self) -> None:
        """Drop every entry and close the delegate."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(t for t in self._tasks if t.get_loop() is loop), return_exceptions=True)
        self._entries.clear()
        await super().aclose()

    async def _find(self, digest: bytes, id: str) -> Entry | None:
        return self._entries.hit(digest) or await self._load(digest, id)

    async def _load(self, digest: bytes, id: str) -> Entry | None:
        """Load the session; concurrent misses share one load. None if it is too large to keep."""
        shared = self._loads.get(digest)
        if shared is None or shared[1].stale or shared[0].get_loop() is not asyncio.get_running_loop():
            flight = self._entries.begin(digest, mutates=False)
            shared = self._track(self._fetch(digest, id, flight)), flight
            self._loads[digest] = shared
        # The load is shared: a cancelled caller leaves it to the others.
        await asyncio.wait({shared[0]})
        return shared[0].result()

    async def _fetch(self, digest: bytes, id: str, flight: Flight) -> Entry | None:
        async def whole(channel: ByteReadChannel) -> Entry | None:
            if channel.info is not None and channel.info.size > self._entry_limit:
                return None
            data = await channel.read(self._entry_limit + 1)
            return Entry(data, channel.info) if len(data) <= self._entry_limit else None

        try:
            entry = await self._delegate.read(id, whole)
            if entry is not None:
                self._entries.keep(digest, flight, entry.data, entry.info)
            return entry
        finally:
            self._entries.end(digest, flight)
            if (shared := self._loads.get(digest)) and shared[1] is flight:
                del self._loads[digest]

    async def _touch_or_write(self, id: str, cached: Entry, options: dict[str, Any]) -> SessionInfo:
        """Touch the session if it still has the cached version; else write the data after all."""
        delegate = self._managed("touch")
        # A write that is to end in a conflict must not touch another's version before.
        info = await delegate.info(id) if "if_match" in options else cached.info
        if _same_version(info, cached.info):
            info = await delegate.touch(id)
            if info is not None and _same_version(info, cached.info):
                return info
        return await delegate.write_bytes(id, cached.data, **options)

    async def _mutate(self, digests: list[bytes], operation: Coroutine[Any, Any, T]) -> T:
        async def run() -> T:
            flights = [(digest, self._entries.begin(digest, mutates=True)) for digest in digests]
            try:
                return await operation
            finally:
                for digest, flight in flights:
                    self._entries.end(digest, flight)

        # If a cancelled caller gives up waiting, the flight stays open, so that no load keeps what it read.
        return await finish(self._track(run()))

    def _track(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved, for a task whose callers were all cancelled


def _repeats(cached: Entry | None, data: bytearray, options: dict[str, Any]) -> bool:
    """Whether a write would leave the cached session as it is."""
    if cached is None or cached.info is None or cached.data != data:
        return False
    same = {"subject": cached.info.subject, "if_match": cached.info.version}
    return all(name in same and same[name] == value for name, value in options.items())


def _same_version(info: SessionInfo | None, other: SessionInfo | None) -> bool:
    return info is not None and other is not None and info.version == other.version
