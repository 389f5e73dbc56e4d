"""starsessions' RedisStore."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import Redis
from starsessions.stores.redis import RedisStore

from .base import Peer

TTL = 14 * 24 * 60 * 60


class Starsessions(Peer):
    """`RedisStore` over redis-py, whose pool raises an error past 100 connections unless it may have more."""

    server = "redis"

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        self.ids = ids
        self.redis = Redis.from_url(self.url, max_connections=512)
        self.store = RedisStore(connection=self.redis, prefix="sqlsessions-benchmark.")

    async def get(self, id: str) -> bytes:
        """GET."""
        return await self.store.read(id, lifetime=TTL)

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.store.write(id, data, lifetime=TTL, ttl=TTL)

    async def close(self) -> None:
        """Delete the sessions."""
        for id in self.ids:
            await self.store.remove(id)
        await self.redis.aclose()
