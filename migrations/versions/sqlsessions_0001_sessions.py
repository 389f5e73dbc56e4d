"""The tables sessions and session_chunks.

Whatever of them is there already stays: on MySQL, where every statement commits by itself, an upgrade
that was cut off is finished by running it again, and tables that ``metadata.create_all`` made are
adopted.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from sqlalchemy.dialects import mysql

revision = "sqlsessions_0001"
down_revision = None
branch_labels = ("sqlsessions",)
depends_on = None

DIGEST = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
BLOB = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
SUBJECT = (
    sa.String(255)
    .with_variant(sa.String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
)
OWNED = sa.text("subject IS NOT NULL")
INDEXES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "ix_sessions_subject": (
        ["subject", "created_at"],
        {"postgresql_where": OWNED, "sqlite_where": OWNED},
    ),
    "ix_sessions_expires_bucket": (["expires_bucket", "id"], {}),
}


def upgrade() -> None:
    """Create both tables."""
    session_columns: list[sa.Column[Any]] = [
        sa.Column("id", DIGEST, nullable=False, primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data", BLOB),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("subject", SUBJECT),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("ttl", sa.BigInteger()),
        sa.Column("ends_at", sa.BigInteger()),
        sa.Column("expires_bucket", sa.Integer()),
    ]
    chunk_columns: list[sa.Column[Any]] = [
        sa.Column("version", sa.BigInteger(), nullable=False, primary_key=True, autoincrement=False),
        sa.Column("id", DIGEST, nullable=False, primary_key=True),
        sa.Column("seq", sa.Integer(), nullable=False, primary_key=True, autoincrement=False),
        sa.Column("data", BLOB, nullable=False),
    ]
    # COMPACT and REDUNDANT, which a server may have for default, have no room for the index of subjects.
    engine: dict[str, Any] = {
        f"{name}_{option}": value
        for name in ("mysql", "mariadb")
        for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"))
    }
    postgresql = op.get_context().dialect.name == "postgresql"
    there = _there("sessions", session_columns)
    if not there:
        op.create_table("sessions", *session_columns, **engine)
        if postgresql:
            op.execute(f"ALTER TABLE {_qualified('sessions')} SET (fillfactor = 80)")
    existing = _indexes("sessions")
    if op.get_context().dialect.name in ("mysql", "mariadb") and there and INDEXES.keys() - existing:
        op.execute(f"ALTER TABLE {_qualified('sessions')} ROW_FORMAT=DYNAMIC")
    for name, (columns, options) in INDEXES.items():
        if name not in existing:
            op.create_index(name, "sessions", columns, **options)
    if not _there("session_chunks", chunk_columns):
        op.create_table("session_chunks", *chunk_columns, **engine)
    if postgresql:
        op.execute(f"ALTER TABLE {_qualified('session_chunks')} ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    """Drop both tables, and with them every session."""
    op.drop_table("session_chunks", if_exists=True)
    op.drop_table("sessions", if_exists=True)


def _there(table: str, columns: list[sa.Column[Any]]) -> bool:
    if op.get_context().as_sql:
        return False
    inspector = sa.inspect(op.get_bind())
    schema = _schema()
    if not inspector.has_table(table, schema=schema):
        return False
    there = {column["name"] for column in inspector.get_columns(table, schema=schema)}
    if {column.name for column in columns} - there:
        raise CommandError(
            f"the table {table!r} of this database is not one of sqlsessions: use another database or schema"
        )
    return True


def _indexes(table: str) -> set[str | None]:
    if op.get_context().as_sql:
        return set()
    return {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table, schema=_schema())}


def _schema() -> str | None:
    """Where the tables belong: where the engine translates schemas to, else in the first one of the search path."""
    if op.get_context().as_sql:
        return None
    connection = op.get_bind()
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    if None not in translated and connection.dialect.name == "postgresql":
        return connection.scalar(sa.select(sa.func.current_schema()))
    return translated.get(None)


def _qualified(table: str) -> str:
    return op.get_context().dialect.identifier_preparer.format_table(sa.table(table, schema=_schema()))
