"""The Alembic revisions of sqlsessions, and checks of a database against them; on a synchronous connection."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Inspector, inspect

from ..errors import InvalidArgument, SchemaOutOfDate
from ..sql.dialects import DIALECTS, Dialect, migration_lock
from ..sql.models import VERSION_TABLE, metadata

# Columns that every revision has, and that another application's table of this name hardly has.
FINGERPRINTS = {
    "sessions": {"id", "version", "data", "expires_bucket"},
    "session_chunks": {"id", "version", "seq", "data"},
    "session_labels": {"label", "id", "version"},
    "session_ends": {"ended_at", "id", "version", "reason"},
}


def run_command(
    name: str, revision: str, attributes: dict[str, Any], output: io.StringIO | None = None, **options: Any
) -> None:
    """Run an Alembic command through the ``env.py`` of sqlsessions.

    Args:
        name: Name of the command in `alembic.command`.
        revision: The revision to go to.
        attributes: The connection or URL, for ``env.py``.
        output: Receives the SQL.
        options: More arguments of the command.

    Raises:
        InvalidArgument: If there is no such revision.
    """
    try:
        getattr(command, name)(_config(attributes, output), revision, **options)
    except CommandError as error:
        raise InvalidArgument(f"cannot {name} to revision {revision!r}: {error}") from error


def create_and_stamp(connection: Connection) -> None:
    """Create the tables as the models declare them, and mark them with the latest revision."""
    with migration_lock(connection):
        refuse_obstacles(connection)
        if current_revision(connection) is None:
            metadata.create_all(connection)
        refuse_shortfalls(connection)
        _context(connection).stamp(_scripts(), "head")


def current_revision(connection: Connection) -> str | None:
    """The revision of the database; None if it was never upgraded."""
    return next(iter(_context(connection).get_current_heads()), None)


def refuse_obstacles(connection: Connection) -> None:
    """Refuse a database that cannot be upgraded.

    Raises:
        SchemaOutOfDate: If the tables are of a newer version, or of another application.
    """
    home = home_of(connection)
    revision = current_revision(connection)
    if revision is not None and revision not in _revisions():
        raise SchemaOutOfDate(
            f"the tables are of a newer sqlsessions (revision {revision}): "
            "run `pip install --upgrade sqlsessions`"
        )
    inspector = inspect(connection)
    for table, fingerprint in FINGERPRINTS.items():
        if inspector.has_table(table, schema=home):
            if fingerprint - _columns(inspector, table, home):
                place = "this database" if home is None else f"the schema {home!r}"
                raise SchemaOutOfDate(
                    f"the table {table!r} of {place} is not one of sqlsessions: "
                    "use another database, or on PostgreSQL another schema, as by schema=name in the URL"
                )
            continue
        other = _dialect(connection).found_in(connection, table)
        if other is not None and not fingerprint - _columns(inspector, table, other):
            raise SchemaOutOfDate(
                f"the session tables are in the schema {other!r}, which comes after {home!r} in the search path: "
                "name the one to use alone, as by schema=name in the URL, or first"
            )


def refuse_shortfalls(connection: Connection) -> None:
    """Refuse a database that has to be upgraded.

    Raises:
        SchemaOutOfDate: If the tables are missing, incomplete or behind.
    """
    inspector, home = inspect(connection), home_of(connection)
    revision, head = current_revision(connection), _revisions()[0]
    absent = [table for table in metadata.tables if not inspector.has_table(table, schema=home)]
    if revision is None and len(absent) == len(metadata.tables):
        raise SchemaOutOfDate("the database has no session tables: run `sqlsessions upgrade`")
    if revision not in (None, head):
        raise SchemaOutOfDate(
            f"the tables are behind, at revision {revision}, where this version needs {head}: "
            "run `sqlsessions upgrade`"
        )
    if lacking := absent or _lacking(inspector, home):
        what = f"the tables are incomplete, without {', '.join(lacking)}"
        if revision is None:
            raise SchemaOutOfDate(f"{what}: run `sqlsessions upgrade`")
        raise SchemaOutOfDate(
            f"{what}, although marked as {revision}: "
            f"drop the table {VERSION_TABLE}, then run `sqlsessions upgrade`"
        )


def home_of(connection: Connection) -> str | None:
    """The schema that the tables are in or belong in; None is the only one.

    Raises:
        SchemaOutOfDate: If there is no such schema.
        StorageUnavailable: If the role may not use it.
    """
    return _dialect(connection).home(connection)


def _dialect(connection: Connection) -> Dialect:
    return DIALECTS[connection.dialect.name]


def _lacking(inspector: Inspector, schema: str | None) -> list[str]:
    found: list[str] = []
    for name, table in metadata.tables.items():
        indexes = {index["name"] for index in inspector.get_indexes(name, schema=schema)}
        columns = _columns(inspector, name, schema)
        found += [f"{name}.{column.name}" for column in table.columns if column.name not in columns]
        found += sorted(str(index.name) for index in table.indexes if index.name not in indexes)
    return found


def _columns(inspector: Inspector, table: str, schema: str | None) -> set[str]:
    return {column["name"] for column in inspector.get_columns(table, schema=schema)}


def _context(connection: Connection) -> MigrationContext:
    options = {"version_table": VERSION_TABLE, "version_table_schema": home_of(connection)}
    return MigrationContext.configure(connection, opts=options)


def _config(attributes: dict[str, Any], output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(files("sqlsessions.migrations")).replace("%", "%%"))
    config.attributes.update(attributes)
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config({}))


def _revisions() -> list[str]:
    """All revisions of this version, the latest first."""
    return [script.revision for script in _scripts().walk_revisions()]
