"""Triggers of MariaDB and MySQL that leave notices without ``INSERT ... SELECT``.

That makes the rest of a statement that writes several rows forget that it comes with ``ON DUPLICATE KEY UPDATE``: it
then shares the lock of each row before it asks for it alone, and two such statements deadlock.

A user who may not create triggers keeps those that there are.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import DBAPIError

revision = "sqlsessions_0005"
down_revision = "sqlsessions_0004"
branch_labels = None
depends_on = None

MYSQL = ("mysql", "mariadb")
CHANGED = "(NEW.version <> OLD.version OR NEW.id <> OLD.id)"
VERSION = "if(NEW.id = OLD.id, NEW.version, 0)"
LEAVE = """{0}EXISTS (
    SELECT 1 FROM {{chunks}} WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq = -6
) THEN
    INSERT INTO {{notices}} (number, id, version)
    VALUES (CAST(uuid_short() & 9223372036854775807 AS SIGNED), OLD.id, {1});
END IF"""
TRIGGERS = {
    "sqlsessions_notice_update": "AFTER UPDATE ON {table} FOR EACH ROW\nIF "
    + LEAVE.format(f"{CHANGED} AND ", VERSION),
    "sqlsessions_notice_delete": "AFTER DELETE ON {table} FOR EACH ROW\nIF " + LEAVE.format("", "0"),
}
LEAVE_BY_SELECT = """
INSERT INTO {{notices}} (number, id, version)
SELECT CAST(uuid_short() & 9223372036854775807 AS SIGNED), OLD.id, {0}
FROM {{chunks}}
WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq = -6"""
EARLIER = {
    "sqlsessions_note_update": "AFTER UPDATE ON {table} FOR EACH ROW"
    f"{LEAVE_BY_SELECT.format(VERSION)} AND {CHANGED}",
    "sqlsessions_note_delete": f"AFTER DELETE ON {{table}} FOR EACH ROW{LEAVE_BY_SELECT.format('0')}",
}
THERE = sa.text(
    "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = coalesce(:schema, database())"
)
REFUSED = {
    1142,  # ER_TABLEACCESS_DENIED_ERROR: without TRIGGER
    1227,  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    1419,  # ER_BINLOG_CREATE_ROUTINE_NEED_SUPER
}


def upgrade() -> None:
    """Create the triggers, then drop the earlier ones: meanwhile a change leaves two notices, which does no harm."""
    if op.get_context().dialect.name in MYSQL and _create(TRIGGERS):
        _drop(EARLIER)


def downgrade() -> None:
    """Create the earlier triggers, then drop these: the earlier code does not drop them with the table of notices."""
    if op.get_context().dialect.name in MYSQL:
        _create(EARLIER)
        _drop(TRIGGERS)


def _create(triggers: dict[str, str]) -> bool:
    """Create the triggers that are not there; whether all are."""
    names = {"table": "sessions", "notices": "session_notices", "chunks": "session_chunks"}
    tables = {key: _qualified(name) for key, name in names.items()}
    there = _there()
    for name, how in triggers.items():
        if name in there:
            continue
        try:
            _execute(f"CREATE TRIGGER {_qualified(name)} {how.format(**tables)}")
        except DBAPIError as error:
            if error.orig is None or error.orig.args[0] not in REFUSED:
                raise
            logging.getLogger("sqlsessions").warning(
                "this user may not create the trigger %s: see docs/migrations.md", name
            )
            return False
    return True


def _execute(trigger: str) -> None:
    if op.get_context().as_sql:
        # The command-line clients part a script at semicolons, unless told to part it at something else.
        for line in ("DELIMITER //", f"{trigger}//", "DELIMITER ;"):
            op.get_context().impl.static_output(line)
    else:
        op.execute(trigger)


def _drop(triggers: dict[str, str]) -> None:
    there = _there()
    for name in triggers:
        if op.get_context().as_sql or name in there:
            op.execute(f"DROP TRIGGER IF EXISTS {_qualified(name)}")


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
