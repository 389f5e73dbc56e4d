"""Labels, clients and times of use of sessions; the index of labels, and the sessions that have ended.

Whatever of it is there already stays, as in the first revision.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "sqlsessions_0004"
down_revision = "sqlsessions_0003"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")
DIGEST = sa.LargeBinary(32).with_variant(mysql.BINARY(32), *MYSQL)
JSON = sa.Text().with_variant(mysql.TEXT(charset="ascii", collation="ascii_bin"), *MYSQL)
REASON = sa.String(16).with_variant(mysql.VARCHAR(16, charset="ascii", collation="ascii_bin"), *MYSQL)
SUBJECT = (
    sa.String(255)
    .with_variant(sa.String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), *MYSQL)
)
OWNED = sa.text("subject IS NOT NULL")
ENGINE: dict[str, Any] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"))
}
COLUMNS: dict[str, Any] = {"client": JSON, "touched_at": sa.BigInteger(), "labels": JSON}
INDEX = "ix_session_ends_subject"


def upgrade() -> None:
    """Add the columns, which are NULL for every session, and create both tables."""
    there = _names("get_columns", "sessions")
    for name, kind in COLUMNS.items():
        if name not in there:
            op.add_column("sessions", sa.Column(name, kind), schema=_schema())
    if not _has("session_labels"):
        op.create_table(
            "session_labels",
            sa.Column("label", DIGEST, nullable=False, primary_key=True),
            sa.Column("id", DIGEST, nullable=False, primary_key=True),
            sa.Column("version", sa.BigInteger(), nullable=False),
            **ENGINE,
        )
    if not _has("session_ends"):
        op.create_table(
            "session_ends",
            sa.Column("ended_at", sa.BigInteger(), nullable=False, primary_key=True, autoincrement=False),
            sa.Column("id", DIGEST, nullable=False, primary_key=True),
            sa.Column("version", sa.BigInteger(), nullable=False, primary_key=True, autoincrement=False),
            sa.Column("reason", REASON, nullable=False),
            sa.Column("subject", SUBJECT),
            sa.Column("created_at", sa.BigInteger(), nullable=False),
            sa.Column("used_at", sa.BigInteger(), nullable=False),
            sa.Column("client", JSON),
            **ENGINE,
        )
    if INDEX not in _names("get_indexes", "session_ends"):
        op.create_index(
            INDEX, "session_ends", ["subject", "ended_at"], postgresql_where=OWNED, sqlite_where=OWNED
        )


def downgrade() -> None:
    """Drop what is new; the sessions stay, without it."""
    op.drop_table("session_ends", if_exists=True)
    op.drop_table("session_labels", if_exists=True)
    there = _names("get_columns", "sessions")
    for name in COLUMNS:
        if op.get_context().as_sql or name in there:
            op.drop_column("sessions", name, schema=_schema())


def _has(table: str) -> bool:
    if op.get_context().as_sql:
        return False
    return sa.inspect(op.get_bind()).has_table(table, schema=_schema())


def _names(get: str, table: str) -> set[str]:
    """The columns or indexes of a table."""
    if op.get_context().as_sql:
        return set()
    return {each["name"] for each in getattr(sa.inspect(op.get_bind()), get)(table, schema=_schema())}


def _schema() -> str | None:
    """Where the tables belong: where the engine translates schemas to, else in the first one of the search path."""
    if op.get_context().as_sql:
        return None
    connection = op.get_bind()
    translated = connection.get_execution_options().get("schema_translate_map") or {}
    if None not in translated and connection.dialect.name == "postgresql":
        return connection.scalar(sa.select(sa.func.current_schema()))
    return translated.get(None)
