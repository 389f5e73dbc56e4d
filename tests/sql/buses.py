"""What the tests of buses need: caches that would be an hour behind without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlsessions import CacheStorage, SqlSessionStorage

PATIENCE = 20.0
HOUR = 3600.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.005)


async def proven(cache: CacheStorage) -> CacheStorage:
    """A cache whose bus is proven."""

    async def is_proven() -> bool:
        await cache.read_bytes("probe")
        bus = cache.statistics.bus
        return bus is not None and bus.proven

    await cache.write_bytes("probe", b"")
    await until(is_proven)
    return cache


@asynccontextmanager
async def cached(url: Any, **options: Any) -> AsyncIterator[CacheStorage]:
    """A cache that would be an hour behind without its bus."""
    async with CacheStorage(SqlSessionStorage(url, **options), max_staleness=HOUR) as cache:
        yield await proven(cache)


async def until_gone(cache: CacheStorage) -> None:
    """Wait until the cache sees that the session was ended."""

    async def gone() -> bool:
        return await cache.load("id") is None

    await until(gone)
