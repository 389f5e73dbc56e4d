"""The SQLAlchemy ORM, plainly: an `AsyncSession` per call."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .base import Peer

TTL = 14 * 24 * 60 * 60


class Base(DeclarativeBase):
    """Its own metadata."""


class OrmSession(Base):
    """A session."""

    __tablename__ = "orm_sessions"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary().with_variant(mysql.LONGBLOB(), "mysql"))
    expires_at: Mapped[int] = mapped_column(BigInteger)


class ORM(Peer):
    """The pool is SQLAlchemy's own, 5 connections and 10 more."""

    async def setup(self, ids: Sequence[str]) -> None:
        """Make a table."""
        self.engine = create_async_engine(self.url)
        self.session = async_sessionmaker(self.engine, expire_on_commit=False)
        async with self.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def get(self, id: str) -> bytes:
        """One SELECT."""
        async with self.session() as session:
            row = await session.get_one(OrmSession, id)
            if row.expires_at <= time.time():
                raise LookupError(id)
            return row.data

    async def set(self, id: str, data: bytes) -> None:
        """A SELECT, and an INSERT or an UPDATE."""
        async with self.session() as session, session.begin():
            await session.merge(OrmSession(id=id, data=data, expires_at=int(time.time()) + TTL))

    async def close(self) -> None:
        """Close the connections."""
        await self.engine.dispose()


class ORMPostgreSQL(ORM):
    """Through asyncpg."""

    server = "postgresql"


class ORMMariaDB(ORM):
    """Through asyncmy."""

    server = "mariadb"
