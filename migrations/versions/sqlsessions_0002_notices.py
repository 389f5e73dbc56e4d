"""Triggers by which PostgreSQL tells who listens which sessions were changed.

Other databases have none, and need nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "sqlsessions_0002"
down_revision = "sqlsessions_0001"
branch_labels = None
depends_on = None

BODY = """
BEGIN
    IF NOT EXISTS (
        SELECT FROM {chunks} WHERE version = 0 AND id = decode(repeat('00', 32), 'hex') AND seq = -5
    ) OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN NULL;
    ELSIF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('sqlsessions', '*');
    ELSIF (SELECT count(*) FROM old_rows) > 5000 THEN
        PERFORM pg_notify('sqlsessions', '*');
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('sqlsessions', string_agg(notice, '')) FROM (
            SELECT encode(id, 'hex') || repeat('0', 16) AS notice, (row_number() OVER () - 1) / 90 AS page
            FROM old_rows
        ) AS notices GROUP BY page;
    ELSE
        PERFORM pg_notify('sqlsessions', string_agg(notice, '')) FROM (
            SELECT
                encode(earlier.id, 'hex') || lpad(to_hex(coalesce(later.version, 0)), 16, '0') AS notice,
                (row_number() OVER () - 1) / 90 AS page
            FROM old_rows AS earlier LEFT JOIN new_rows AS later ON later.id = earlier.id
            WHERE later.version IS DISTINCT FROM earlier.version
        ) AS notices GROUP BY page;
    END IF;
    RETURN NULL;
END
"""
# As a string without semicolons, by which tools part a script into statements.
FUNCTION = (
    "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS E'"
    + BODY.replace("'", "''").replace(";", r"\x3b")
    + "'"
)
TRIGGERS = {
    "sqlsessions_notify_update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "sqlsessions_notify_delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows",
    "sqlsessions_notify_truncate": "AFTER TRUNCATE ON {table}",
}


def upgrade() -> None:
    """Create the triggers and their function."""
    if op.get_context().dialect.name != "postgresql":
        return
    table, function = _qualified("sessions"), _qualified("sqlsessions_notify")
    op.execute(FUNCTION.replace("{name}", function).replace("{chunks}", _qualified("session_chunks")))
    for name, when in TRIGGERS.items():
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        op.execute(
            f"CREATE TRIGGER {name} {when.format(table=table)} FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )


def downgrade() -> None:
    """Drop the triggers and their function."""
    if op.get_context().dialect.name != "postgresql":
        return
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON {_qualified('sessions')}")
    op.execute(f"DROP FUNCTION IF EXISTS {_qualified('sqlsessions_notify')}()")


def _qualified(name: str) -> str:
    """A name with the schema, if the engine translates schemas."""
    schema: str | None = None
    if not op.get_context().as_sql:
        translated = op.get_bind().get_execution_options().get("schema_translate_map") or {}
        schema = translated.get(None)
    return op.get_context().dialect.identifier_preparer.format_table(sa.table(name, schema=schema))
