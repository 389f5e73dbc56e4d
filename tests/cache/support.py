"""Storages for beneath the cache: they count what is asked of them and stop where a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from hashlib import sha256
from typing import Any, TypeVar

from sqlsessions import (
    ByteReadChannel,
    CacheStorage,
    Provider,
    SessionInfo,
    SessionNotFound,
    SessionStorage,
    SessionStorageMemory,
)
from sqlsessions.channels import Consumer, collect, consume, providing
from sqlsessions.testing._base import Pause

R = TypeVar("R")
CHANGES: dict[str, Callable[[CacheStorage], Coroutine[Any, Any, object]]] = {
    "write": lambda cache: cache.write_bytes("id", b"new"),
    "invalidate": lambda cache: cache.invalidate("id"),
    "invalidate_key": lambda cache: cache.invalidate_key(key("id")),
    "rotate": lambda cache: cache.rotate("id", "new id"),
    "revoke": lambda cache: cache.revoke("ann"),
}
"""What changes or ends the session "id" of the subject "ann"."""


def key(id: str) -> str:
    """The `SessionInfo.key` of an id."""
    return sha256(id.encode()).hexdigest()


async def turns() -> None:
    """Let every task go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Recorder(SessionStorageMemory):
    """A storage in memory that counts its calls; a write that changed something is also a "commit".

    It stops where `stop` says, and raises what `errors` says instead of answering.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: Counter[str] = Counter()
        self.errors: dict[str, Exception] = {}
        self.closed = 0
        self._stops: dict[str, Pause] = {}

    def stop(self, point: str) -> Pause:
        """Stop the next call once, "before" or "after" it takes effect, for instance "before write"."""
        self._stops[point] = pause = Pause()
        return pause

    async def at(self, point: str) -> None:
        if pause := self._stops.pop(point, None):
            await pause()

    async def _do(self, name: str, effect: Callable[[], Awaitable[R]]) -> R:
        self.calls[name] += 1
        await self.at(f"before {name}")
        if error := self.errors.get(name):
            raise error
        result = await effect()
        await self.at(f"after {name}")
        return result

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        data = await collect(provider)
        write = super().write
        info = await self._do("write", lambda: write(id, providing(data), **options))
        self.calls["commit"] += 1
        return info

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        read = super().read
        return await self._do("read", lambda: read(id, consumer))

    async def info(self, id: str) -> SessionInfo | None:
        info = super().info
        return await self._do("info", lambda: info(id))

    async def touch(self, id: str, **options: Any) -> SessionInfo | None:
        touch = super().touch
        return await self._do("touch", lambda: touch(id, **options))

    async def invalidate(self, id: str) -> None:
        invalidate = super().invalidate
        await self._do("invalidate", lambda: invalidate(id))

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        rotate = super().rotate
        return await self._do("rotate", lambda: rotate(id, new_id))

    async def revoke(self, subject: str, **options: Any) -> int:
        revoke = super().revoke
        return await self._do("revoke", lambda: revoke(subject, **options))

    async def invalidate_key(self, key: str, **options: Any) -> bool:
        invalidate_key = super().invalidate_key
        return await self._do("invalidate_key", lambda: invalidate_key(key, **options))

    async def aclose(self) -> None:
        self.closed += 1


class Plain(SessionStorage):
    """The three verbs and no more. Its writes return how many bytes they wrote."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.reads = 0

    async def write(self, id: str, provider: Provider) -> int:
        self.kept[id] = await collect(provider)
        return len(self.kept[id])

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        self.reads += 1
        if id not in self.kept:
            raise SessionNotFound("no live session has this id")
        return await consume(consumer, self._pieces(self.kept[id]))

    async def invalidate(self, id: str) -> None:
        self.kept.pop(id, None)

    async def _pieces(self, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 3):
            yield data[start : start + 3]


async def by_pieces(channel: ByteReadChannel) -> list[bytes]:
    """A consumer that takes the pieces as they come."""
    return [piece async for piece in channel]
