"""What one would write by hand on psycopg in pipeline mode: one connection, which all calls share."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg

from .base import Peer

TABLE = """CREATE TABLE psycopg_sessions (
    id text PRIMARY KEY, data bytea NOT NULL, expires_at bigint NOT NULL
)"""
GET = "SELECT data FROM psycopg_sessions WHERE id = %b AND expires_at > %b"
SET = """INSERT INTO psycopg_sessions (id, data, expires_at) VALUES (%b, %b, %b)
ON CONFLICT (id) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at"""
TTL = 14 * 24 * 60 * 60


class PsycopgPipeline(Peer):
    """The fastest that we found: no statement waits for the answer to another, and each is prepared.

    What is sent between two syncs is one transaction: a statement that fails takes its neighbours along.
    """

    server = "postgresql"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        url = self.url.replace("+asyncpg", "")
        self.connection = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)
        await self.connection.execute(TABLE)
        self.pipelined = self.connection.pipeline()
        self.pipeline = await self.pipelined.__aenter__()

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        async with self.connection.cursor(binary=True) as cursor:
            await cursor.execute(GET, (id, int(time.time())))
            row = await cursor.fetchone()
        if row is None:
            raise LookupError(id)
        data: bytes = row[0]
        return data

    async def set(self, id: str, data: bytes) -> None:
        """One upsert, and a sync, which commits it."""
        async with self.connection.cursor() as cursor:
            await cursor.execute(SET, (id, data, int(time.time()) + TTL))
            await self.pipeline.sync()

    async def close(self) -> None:
        """Close the connection."""
        await self.pipelined.__aexit__(None, None, None)
        await self.connection.close()
