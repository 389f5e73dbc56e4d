"""The two tables, declared once: statements, migrations and ``alembic check`` all come from here."""

from __future__ import annotations

from sqlalchemy import DDL, BigInteger, Index, Integer, LargeBinary, MetaData, String, Table, event, text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

metadata = MetaData()
"""The tables of sqlsessions, for an application that owns them in its own Alembic history."""

_OWNED = text("subject IS NOT NULL")

VERSION_TABLE = "sqlsessions_alembic_version"
"""Where Alembic keeps our revision, apart from the host's own."""

SUPERSEDED = -1
"""The ``seq`` of the row that says when its set of chunks was superseded: its data is that time, eight bytes
big-endian."""

TOMBSTONE = -2
"""The ``seq`` of a row that says which version of a session is there no more, other than by a write with a
higher one: its data is that version, eight bytes big-endian, its own version tells when that happened. A
writer of that version whose reply was lost knows by it that the write took effect."""

PURGE_LEASE = -3
"""The ``seq`` of the row that says which process may purge."""

MOVED = -4
"""The ``seq`` of the row that says where a session went whose id was changed. Its ``id`` is the old digest, its
``version`` 0, so that it is found by its key; its data is the time of the move, eight bytes big-endian, and
the new digest. Neither is a credential: an id cannot be computed from its digest."""

# MySQL's BLOB ends at 64 KiB and its BINARY compares by bytes; its default collations would take
# "Alice" for "alice". PostgreSQL's "C" compares by bytes too.
_Digest = LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
_Blob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_Subject = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
)


class Base(DeclarativeBase):
    """Declarative base of both tables."""

    metadata = metadata


class SessionRow(Base):
    """A session. Times are microseconds since 1970 UTC, durations microseconds; NULL is never.

    ``ttl`` and ``ends_at`` are the session's own idle timeout and absolute end.

    ``expires_bucket`` is an hour (since 1970) before which the session does not expire: a lower
    bound, which a touch or a rewrite leaves alone and the purge moves up. It is indexed, and
    ``expires_at`` is not, so that on PostgreSQL both stay heap-only (HOT) updates.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_subject", "subject", "created_at", postgresql_where=_OWNED, sqlite_where=_OWNED),
        Index("ix_sessions_expires_bucket", "expires_bucket", "id"),
        {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"},
    )

    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(_Blob)
    size: Mapped[int] = mapped_column(BigInteger)
    subject: Mapped[str | None] = mapped_column(_Subject)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    ttl: Mapped[int | None] = mapped_column(BigInteger)
    ends_at: Mapped[int | None] = mapped_column(BigInteger)
    expires_bucket: Mapped[int | None] = mapped_column(Integer)


class ChunkRow(Base):
    """A piece of a large blob, under the version and the id that it was staged for.

    A ``seq`` below 0 makes a special row: `SUPERSEDED`, `TOMBSTONE`, `PURGE_LEASE` or `MOVED`.
    """

    __tablename__ = "session_chunks"
    __table_args__ = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(_Blob)


sessions = metadata.tables["sessions"]
chunks = metadata.tables["session_chunks"]


def _after_create(table: Table, statement: str) -> None:
    """Run a statement of PostgreSQL after a table was created."""
    ddl = DDL(statement).execute_if(dialect="postgresql")  # type: ignore[no-untyped-call]
    event.listen(table, "after_create", ddl)


# Room for the next version of a row beside it, so that an update stays heap-only.
_after_create(sessions, "ALTER TABLE sessions SET (fillfactor = 80)")
# Chunks are large and mostly compressed or encrypted already: trying to compress them is waste.
_after_create(chunks, "ALTER TABLE session_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
