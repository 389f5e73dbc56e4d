"""What one would write by hand on asyncpg: its own pool, a prepared statement per call."""

from __future__ import annotations

import time
from collections.abc import Sequence

import asyncpg

from .base import Peer

TABLE = "CREATE TABLE raw_sessions (id text PRIMARY KEY, data bytea NOT NULL, expires_at bigint NOT NULL)"
GET = "SELECT data FROM raw_sessions WHERE id = $1 AND expires_at > $2"
SET = """INSERT INTO raw_sessions (id, data, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at"""
TTL = 14 * 24 * 60 * 60


class RawAsyncpg(Peer):
    """asyncpg with a pool of its default size, 10."""

    server = "postgresql"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        self.pool = await asyncpg.create_pool(self.url.replace("+asyncpg", ""))
        await self.pool.execute(TABLE)

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        data: bytes = await self.pool.fetchval(GET, id, int(time.time()))
        return data

    async def set(self, id: str, data: bytes) -> None:
        """One upsert, which commits by itself."""
        await self.pool.execute(SET, id, data, int(time.time()) + TTL)

    async def close(self) -> None:
        """Close the pool."""
        await self.pool.close()
