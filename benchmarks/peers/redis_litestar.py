"""Litestar's RedisStore."""

from __future__ import annotations

from collections.abc import Sequence

from litestar.stores.redis import RedisStore
from redis.asyncio import Redis

from .base import Peer

TTL = 14 * 24 * 60 * 60


class Litestar(Peer):
    """`RedisStore` over redis-py, whose pool raises an error past 100 connections unless it may have more."""

    server = "redis"

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        self.redis = Redis.from_url(self.url, max_connections=512)
        self.store = RedisStore(self.redis, namespace="sqlsessions-benchmark")

    async def get(self, id: str) -> bytes:
        """GET."""
        data = await self.store.get(id)
        if data is None:
            raise LookupError(id)
        return data

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.store.set(id, data, expires_in=TTL)

    async def close(self) -> None:
        """Delete the sessions."""
        await self.store.delete_all()
        await self.redis.aclose()
