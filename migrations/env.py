"""How Alembic runs our revisions: from a checkout, and for `sqlsessions.schema`.

The database is, in this order: the connection in ``config.attributes["connection"]``, the URL in
``config.attributes["url"]``, ``-x url=...``, ``SQLSESSIONS_URL``, ``sqlalchemy.url`` of the ini file.
Logging stays as the host set it up.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, Connection

from sqlsessions.errors import SessionError
from sqlsessions.schema.migrations import connected
from sqlsessions.schema.revisions import home_of
from sqlsessions.sql.dialects import DIALECTS, migration_lock
from sqlsessions.sql.engine.urls import async_url
from sqlsessions.sql.models import VERSION_TABLE, metadata


def url() -> str | URL:
    """The URL of the database."""
    found: str | URL | None = (
        context.config.attributes.get("url")
        or context.get_x_argument(as_dictionary=True).get("url")
        or os.environ.get("SQLSESSIONS_URL")
        or context.config.get_main_option("sqlalchemy.url")
    )
    if found is None:
        raise CommandError("which database? Give -x url=postgresql://..., or set SQLSESSIONS_URL")
    return found


def ours(name: str | None, type_: str, _parents: Any) -> bool:
    """Whether to compare something with our models: other tables are nobody's drift."""
    return type_ != "table" or name in metadata.tables


def configure(dialect: str, **target: Any) -> None:
    """Set Alembic up for a connection, or for a dialect alone."""
    context.configure(
        **target,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_name=ours,
        transactional_ddl=DIALECTS[dialect].transactional_ddl,
    )


def online(connection: Connection) -> None:
    """Run the revisions on a connection, one process at a time."""
    # The lock comes before Alembic reads the current revision, and brings the transaction along.
    with migration_lock(connection):
        configure(connection.dialect.name, connection=connection, version_table_schema=home_of(connection))
        context.run_migrations()


async def connect() -> None:
    """Run the revisions on a connection of our own."""
    async with connected(url(), make=True) as connection:
        await connection.run_sync(online)


def offline() -> None:
    """Write the revisions as SQL."""
    database = async_url(url())
    dialect = database.get_backend_name()
    configure(dialect, dialect_name=dialect, literal_binds=True)
    with context.begin_transaction():
        for statement in DIALECTS[dialect].script_opening(database):
            context.execute(statement)
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    online(given)
else:
    try:
        if context.is_offline_mode():
            offline()
        else:
            asyncio.run(connect())
    except SessionError as error:
        raise CommandError(str(error)) from error
