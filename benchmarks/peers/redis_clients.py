"""Redis by a client alone, as one would write sessions by hand: GET, and SET with an expiry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import coredis
from glide import ExpirySet, ExpiryType, GlideClient, GlideClientConfiguration, NodeAddress
from redis.asyncio import Redis
from sqlalchemy import make_url

from .base import Peer

TTL = 14 * 24 * 60 * 60
MOST = 2048  # connections or requests at once, beyond the callers of any benchmark
PREFIX = "sqlsessions-benchmark."


class _Client(Peer):
    """What each leaves to be deleted."""

    server: ClassVar = "redis"

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        self.ids = ids

    async def close(self) -> None:
        """Delete the sessions."""
        async with Redis.from_url(self.url) as redis:
            await redis.delete(*(PREFIX + id for id in self.ids))


class RedisPy(_Client):
    """redis-py: a connection for each call that is under way."""

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        await super().setup(ids)
        self.redis = Redis.from_url(self.url, max_connections=MOST)

    async def get(self, id: str) -> bytes:
        """GET."""
        data: bytes | None = await self.redis.get(PREFIX + id)
        if data is None:
            raise LookupError(id)
        return data

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.redis.set(PREFIX + id, data, ex=TTL)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        await super().close()


class Glide(_Client):
    """valkey-glide, whose core is written in Rust: all calls share one connection."""

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        await super().setup(ids)
        url = make_url(self.url)
        address = NodeAddress(url.host or "127.0.0.1", url.port or 6379)
        self.client = await GlideClient.create(
            GlideClientConfiguration([address], request_timeout=60_000, inflight_requests_limit=MOST)
        )
        self.expiry = ExpirySet(ExpiryType.SEC, TTL)

    async def get(self, id: str) -> bytes:
        """GET."""
        data: bytes | None = await self.client.get(PREFIX + id)
        if data is None:
            raise LookupError(id)
        return data

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.client.set(PREFIX + id, data, expiry=self.expiry)

    async def close(self) -> None:
        """Close the connection."""
        await self.client.close()
        await super().close()


class Coredis(_Client):
    """coredis, whose calls share connections, each a pipeline."""

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        await super().setup(ids)
        url = make_url(self.url)
        self.client = coredis.Redis(url.host, url.port or 6379, max_connections=MOST)
        await self.client.__aenter__()

    async def get(self, id: str) -> bytes:
        """GET."""
        data: bytes | None = await self.client.get(PREFIX + id)
        if data is None:
            raise LookupError(id)
        return data

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.client.set(PREFIX + id, data, ex=TTL)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.__aexit__(None, None, None)
        await super().close()


class RedisPyAlways(RedisPy):
    """The same with `appendfsync always`."""

    server = "redis-always"


class GlideAlways(Glide):
    """The same with `appendfsync always`."""

    server = "redis-always"


class CoredisAlways(Coredis):
    """The same with `appendfsync always`."""

    server = "redis-always"
