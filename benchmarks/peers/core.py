"""SQLAlchemy Core, plainly: a connection from the pool and a statement per call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, bindparam, select
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.asyncio import create_async_engine

from .base import Peer

TTL = 14 * 24 * 60 * 60

table = Table(
    "core_sessions",
    MetaData(),
    Column("id", String(255), primary_key=True),
    Column("data", LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
GET = select(table.c.data).where(table.c.id == bindparam("key"), table.c.expires_at > bindparam("now"))


class Core(Peer):
    """Statements are built once; the pool is SQLAlchemy's own, 5 connections and 10 more."""

    upsert: ClassVar[Any]

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        self.engine = create_async_engine(self.url)
        async with self.engine.begin() as connection:
            await connection.run_sync(table.create)

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        async with self.engine.connect() as connection:
            found = await connection.execute(GET, {"key": id, "now": int(time.time())})
            data: bytes = found.scalar_one()
        return data

    async def set(self, id: str, data: bytes) -> None:
        """One upsert in a transaction."""
        row = {"id": id, "data": data, "expires_at": int(time.time()) + TTL}
        async with self.engine.begin() as connection:
            await connection.execute(self.upsert, row)

    async def close(self) -> None:
        """Close the connections."""
        await self.engine.dispose()


def _upsert_postgresql() -> Any:
    insert = postgresql.insert(table)
    return insert.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={"data": insert.excluded.data, "expires_at": insert.excluded.expires_at},
    )


def _upsert_mysql() -> Any:
    insert = mysql.insert(table)
    return insert.on_duplicate_key_update(data=insert.inserted.data, expires_at=insert.inserted.expires_at)


class CorePostgreSQL(Core):
    """Through asyncpg."""

    server = "postgresql"
    upsert = _upsert_postgresql()


class CoreMariaDB(Core):
    """Through asyncmy."""

    server = "mariadb"
    upsert = _upsert_mysql()
