"""What one would write by hand on asyncmy: its own pool, a statement per call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import asyncmy
from sqlalchemy import make_url

from .base import Peer

TABLE = """CREATE TABLE raw_sessions (
    id varchar(255) COLLATE utf8mb4_bin PRIMARY KEY, data longblob NOT NULL, expires_at bigint NOT NULL
)"""
GET = "SELECT data FROM raw_sessions WHERE id = %s AND expires_at > %s"
SET = "INSERT INTO raw_sessions (id, data, expires_at) VALUES (%s, %s, %s)"
TTL = 14 * 24 * 60 * 60


class AsyncmyMariaDB(Peer):
    """asyncmy with a pool of its default size, 10; autocommit, so that a call is one round trip."""

    server: ClassVar = "mariadb"
    upsert: ClassVar = "ON DUPLICATE KEY UPDATE data = VALUES(data), expires_at = VALUES(expires_at)"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        url = make_url(self.url)
        self.pool = await asyncmy.create_pool(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            database=url.database,
            autocommit=True,
        )
        async with self.pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(TABLE)

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        async with self.pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(GET, (id, int(time.time())))
            row = await cursor.fetchone()
        if row is None:
            raise LookupError(id)
        data: bytes = row[0]
        return data

    async def set(self, id: str, data: bytes) -> None:
        """One upsert, which commits by itself."""
        async with self.pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(f"{SET} {self.upsert}", (id, data, int(time.time()) + TTL))

    async def close(self) -> None:
        """Close the pool."""
        self.pool.close()
        await self.pool.wait_closed()


class AsyncmyMySQL(AsyncmyMariaDB):
    """The same on MySQL."""

    server = "mysql"
    upsert = "AS new ON DUPLICATE KEY UPDATE data = new.data, expires_at = new.expires_at"
