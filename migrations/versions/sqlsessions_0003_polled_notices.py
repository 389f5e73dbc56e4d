"""The table and the triggers by which MariaDB and MySQL leave notices of changed sessions to processes that poll them.

Other databases have none. A user who may not create triggers gets none, nor does one without SUPER on a server with a
binary log, unless log_bin_trust_function_creators is on: caches are then behind by no more than their max_staleness.
"""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

revision = "sqlsessions_0003"
down_revision = "sqlsessions_0002"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")
ENGINE = {"engine": "InnoDB", "row_format": "DYNAMIC"}
DIGEST = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
# One statement, by which tools part a script. It reads another table than it writes to: of one and the same, InnoDB
# would lock the row that it reads against all others.
LEAVE = """
INSERT INTO {notices} (number, id, version)
SELECT CAST(uuid_short() & 9223372036854775807 AS SIGNED), OLD.id, NEW_VERSION
FROM {chunks}
WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq = -6"""
TRIGGERS = {
    "sqlsessions_note_update": "AFTER UPDATE ON {table} FOR EACH ROW"
    + LEAVE.replace("NEW_VERSION", "if(NEW.id = OLD.id, NEW.version, 0)")
    + " AND (NEW.version <> OLD.version OR NEW.id <> OLD.id)",
    "sqlsessions_note_delete": "AFTER DELETE ON {table} FOR EACH ROW" + LEAVE.replace("NEW_VERSION", "0"),
}
FORGET = "DELETE FROM {chunks} WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq IN (-6, -7)"
THERE = sa.text(
    "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = coalesce(:schema, database()) AND"
    " trigger_name IN ('sqlsessions_note_update', 'sqlsessions_note_delete')"
)
REFUSED = {
    1142,  # ER_TABLEACCESS_DENIED_ERROR: without TRIGGER
    1227,  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1419,  # ER_BINLOG_CREATE_ROUTINE_NEED_SUPER
}


def upgrade() -> None:
    """Create the table and the triggers, where there are such and the user may."""
    if op.get_context().dialect.name not in MYSQL:
        return
    if op.get_context().as_sql or not sa.inspect(op.get_bind()).has_table(
        "session_notices", schema=_schema()
    ):
        options: dict[str, Any] = {
            f"{name}_{option}": value for name in MYSQL for option, value in ENGINE.items()
        }
        op.create_table(
            "session_notices",
            sa.Column("number", sa.BigInteger(), nullable=False, primary_key=True, autoincrement=False),
            sa.Column("id", DIGEST, nullable=False),
            sa.Column("version", sa.BigInteger(), nullable=False),
            **options,
        )
    there = _there()
    names = {"table": "sessions", "notices": "session_notices", "chunks": "session_chunks"}
    tables = {key: _qualified(name) for key, name in names.items()}
    for name, how in TRIGGERS.items():
        if name in there:
            continue
        try:
            op.execute(f"CREATE TRIGGER {_qualified(name)} {how.format(**tables)}")
        except DBAPIError as error:
            if error.orig is None or error.orig.args[0] not in REFUSED:
                raise
            logging.getLogger("sqlsessions").warning(
                "this user may not create the trigger %s: see docs/migrations.md", name
            )


def downgrade() -> None:
    """Drop the triggers and their table."""
    if op.get_context().dialect.name not in MYSQL:
        return
    for name in TRIGGERS if op.get_context().as_sql else _there():
        op.execute(f"DROP TRIGGER IF EXISTS {_qualified(name)}")
    op.drop_table("session_notices", if_exists=True)
    op.execute(FORGET.format(chunks=_qualified("session_chunks")))


def _there() -> set[str]:
    if op.get_context().as_sql:
        return set()
    return set(op.get_bind().execute(THERE, {"schema": _schema()}).scalars())


def _schema() -> str | None:
    """Where the tables belong, if the engine translates schemas."""
    if op.get_context().as_sql:
        return None
    schema: str | None = (op.get_bind().get_execution_options().get("schema_translate_map") or {}).get(None)
    return schema


def _qualified(name: str) -> str:
    return op.get_context().dialect.identifier_preparer.format_table(sa.table(name, schema=_schema()))
