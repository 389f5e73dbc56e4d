"""sqlsessions as it comes: a URL and nothing else, but for `SQLiteNormal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sqlsessions import SqlSessionStorage

from .base import Peer


class Ours(Peer):
    """`SqlSessionStorage`, through its byte forms."""

    options: ClassVar[dict[str, Any]] = {}

    async def setup(self, ids: Sequence[str]) -> None:
        """Open the storage."""
        self.storage = SqlSessionStorage(self.url, **self.options)

    async def get(self, id: str) -> bytes:
        """One SELECT, shared with other callers."""
        return await self.storage.read_bytes(id)

    async def set(self, id: str, data: bytes) -> None:
        """One upsert, shared with other callers."""
        await self.storage.write_bytes(id, data)

    async def close(self) -> None:
        """Close the storage."""
        await self.storage.aclose()


class PostgreSQL(Ours):
    """Through asyncpg."""

    server = "postgresql"


class MariaDB(Ours):
    """Through asyncmy."""

    server = "mariadb"


class MySQL(Ours):
    """Through asyncmy."""

    server = "mysql"


class SQLite(Ours):
    """synchronous=FULL, the default."""

    server = "sqlite"


class SQLiteNormal(SQLite):
    """synchronous=NORMAL."""

    options: ClassVar = {"synchronous": "NORMAL"}
