"""What one would write by hand on aiosqlite: one connection, WAL, a statement and a commit per call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import aiosqlite

from .base import Peer

# WITHOUT ROWID would make rows of a kilobyte overflow their pages, and reads of them nearly twice as slow.
TABLE = "CREATE TABLE raw_sessions (id TEXT PRIMARY KEY, data BLOB NOT NULL, expires_at INTEGER NOT NULL)"
GET = "SELECT data FROM raw_sessions WHERE id = ? AND expires_at > ?"
SET = """INSERT INTO raw_sessions (id, data, expires_at) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at"""
TTL = 14 * 24 * 60 * 60


class Full(Peer):
    """aiosqlite at synchronous=FULL; autocommit, so that a call is one hop into its thread."""

    server = "sqlite"
    synchronous: ClassVar = "FULL"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        path = self.url.partition(":///")[2]
        self.connection = await aiosqlite.connect(path, isolation_level=None)
        await self.connection.execute("PRAGMA journal_mode = WAL")
        await self.connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        await self.connection.execute(TABLE)

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        rows = await self.connection.execute_fetchall(GET, (id, int(time.time())))
        data: bytes = next(iter(rows))[0]
        return data

    async def set(self, id: str, data: bytes) -> None:
        """One upsert, which commits by itself."""
        await self.connection.execute_fetchall(SET, (id, data, int(time.time()) + TTL))

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()


class Normal(Full):
    """The same at synchronous=NORMAL."""

    synchronous = "NORMAL"
