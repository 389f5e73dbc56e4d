"""Redis by a client alone, as one would write sessions by hand: GET, and SET with an expiry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import coredis
from glide import ExpirySet, ExpiryType, GlideClient, GlideClientConfiguration, NodeAddress
from redis.asyncio import Redis
from sqlalchemy import make_url

from .base import Peer

TTL = 14 * 24 * 60 * 60
MOST = 2048  # connections or requests at once, beyond the callers of any benchmark
PREFIX = "sqlsessions-benchmark."


class RedisPy(Peer):
    """redis-py: a connection for each call that is under way."""

    server: ClassVar = "redis"
    client: Any

    async def setup(self, ids: Sequence[str]) -> None:
        """Connect."""
        self.ids = ids
        await self.connect()

    async def connect(self) -> None:
        """Set the client."""
        self.client = Redis.from_url(self.url, max_connections=MOST)

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
        """Delete the sessions, and close the connections."""
        async with Redis.from_url(self.url) as redis:
            await redis.delete(*(PREFIX + id for id in self.ids))
        await self.disconnect()

    async def disconnect(self) -> None:
        """Close the connections."""
        await self.client.aclose()


class Glide(RedisPy):
    """valkey-glide, whose core is written in Rust: all calls share one connection."""

    expiry = ExpirySet(ExpiryType.SEC, TTL)

    async def connect(self) -> None:
        """Set the client."""
        url = make_url(self.url)
        address = NodeAddress(url.host or "127.0.0.1", url.port or 6379)
        self.client = await GlideClient.create(
            GlideClientConfiguration([address], request_timeout=60_000, inflight_requests_limit=MOST)
        )

    async def set(self, id: str, data: bytes) -> None:
        """SET with an expiry."""
        await self.client.set(PREFIX + id, data, expiry=self.expiry)

    async def disconnect(self) -> None:
        """Close the connection."""
        await self.client.close()


class Coredis(RedisPy):
    """coredis, whose calls share connections, each a pipeline."""

    async def connect(self) -> None:
        """Set the client."""
        url = make_url(self.url)
        self.client = coredis.Redis(url.host, url.port or 6379, max_connections=MOST)
        await self.client.__aenter__()

    async def disconnect(self) -> None:
        """Close the connections."""
        await self.client.__aexit__(None, None, None)


class RedisPyAlways(RedisPy):
    """The same with `appendfsync always`."""

    server = "redis-always"


class GlideAlways(Glide):
    """The same with `appendfsync always`."""

    server = "redis-always"


class CoredisAlways(Coredis):
    """The same with `appendfsync always`."""

    server = "redis-always"
