"""Large blobs by hand: rows of chunks, each written by a statement of its own, read four at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from sqlalchemy import text

from sqlsessions import SqlSessionStorage

AT_ONCE = 4


class RawChunks(ABC):
    """Chunk rows in a table like ours, through a driver alone.

    Args:
        url: A database with our tables, in which it makes its own.
    """

    name: ClassVar[str]
    columns: ClassVar[str]

    def __init__(self, url: str) -> None:
        self.url = url

    async def setup(self) -> None:
        """Connect, and make the tables."""
        await self.connect()
        for table in ("raw_chunks", "atomic_chunks"):
            await self.execute(f"CREATE TABLE {table} ({self.columns}, PRIMARY KEY (version, seq))")

    async def write(self, version: int, piece: bytes, pieces: int) -> None:
        """Write chunks, each of which commits by itself, as ours do."""
        for seq in range(pieces):
            await self.insert("raw_chunks", version, seq, piece)

    async def write_atomic(self, piece: bytes, pieces: int) -> None:
        """Write chunks in one transaction, which holds the connection all along."""
        await self.execute("BEGIN")
        for seq in range(pieces):
            await self.insert("atomic_chunks", 0, seq, piece)
        await self.execute("COMMIT")

    async def read(self, version: int) -> int:
        """Read all chunks; how many bytes they are."""
        size = seq = 0
        while found := await self.select(version, seq):
            seq += len(found)
            size += sum(len(row[1]) for row in found)
        return size

    async def empty(self, *tables: str) -> None:
        """Make room for the next round."""
        for table in tables:
            await self.execute(f"DELETE FROM {table}")

    @staticmethod
    async def empty_ours(storage: SqlSessionStorage) -> None:
        """The same for our own tables."""
        async with storage.engine.begin() as connection:
            for table in ("session_chunks", "sessions"):
                await connection.execute(text(f"DELETE FROM {table}"))

    @abstractmethod
    async def connect(self) -> None:
        """Connect."""

    @abstractmethod
    async def execute(self, statement: str) -> None:
        """Run a statement."""

    @abstractmethod
    async def insert(self, table: str, version: int, seq: int, piece: bytes) -> None:
        """Insert a chunk."""

    @abstractmethod
    async def select(self, version: int, seq: int) -> list[Any]:
        """The next chunks, as rows of seq and data."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""


class AsyncpgChunks(RawChunks):
    """Through asyncpg."""

    name = "raw asyncpg"
    columns = "version bigint, seq int, data bytea"

    async def connect(self) -> None:
        """Connect, without a pool."""
        import asyncpg

        self.connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))

    async def setup(self) -> None:
        """Connect, and make the tables, their chunks stored as ours are."""
        await super().setup()
        for table in ("raw_chunks", "atomic_chunks"):
            await self.execute(f"ALTER TABLE {table} ALTER data SET STORAGE EXTERNAL")

    async def execute(self, statement: str) -> None:
        """Run a statement."""
        await self.connection.execute(statement)

    async def insert(self, table: str, version: int, seq: int, piece: bytes) -> None:
        """Insert a chunk."""
        await self.connection.execute(f"INSERT INTO {table} VALUES ($1, $2, $3)", version, seq, piece)

    async def select(self, version: int, seq: int) -> list[Any]:
        """The next chunks."""
        statement = (
            "SELECT seq, data FROM raw_chunks WHERE version = $1 AND seq >= $2 AND seq < $3 ORDER BY 1"
        )
        found: list[Any] = await self.connection.fetch(statement, version, seq, seq + AT_ONCE)
        return found

    async def close(self) -> None:
        """Disconnect."""
        await self.connection.close()


class AiosqliteChunks(RawChunks):
    """Through aiosqlite, WAL and synchronous=FULL."""

    name = "raw aiosqlite FULL"
    columns = "version integer, seq integer, data blob"

    async def connect(self) -> None:
        """Open the file."""
        import aiosqlite

        path = self.url.partition(":///")[2]
        self.connection = await aiosqlite.connect(path, isolation_level=None)
        await self.execute("PRAGMA journal_mode = WAL")
        await self.execute("PRAGMA synchronous = FULL")

    async def execute(self, statement: str) -> None:
        """Run a statement."""
        await self.connection.execute_fetchall(statement)

    async def insert(self, table: str, version: int, seq: int, piece: bytes) -> None:
        """Insert a chunk."""
        await self.connection.execute_fetchall(f"INSERT INTO {table} VALUES (?, ?, ?)", (version, seq, piece))

    async def select(self, version: int, seq: int) -> list[Any]:
        """The next chunks."""
        statement = "SELECT seq, data FROM raw_chunks WHERE version = ? AND seq >= ? AND seq < ? ORDER BY 1"
        return list(await self.connection.execute_fetchall(statement, (version, seq, seq + AT_ONCE)))

    async def close(self) -> None:
        """Close the file."""
        await self.connection.close()


def load(server: str) -> type[RawChunks]:
    """The one for a server."""
    return {"postgresql": AsyncpgChunks, "sqlite": AiosqliteChunks}[server]
