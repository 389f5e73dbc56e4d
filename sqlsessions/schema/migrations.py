"""Migrations: the tables upgraded, taken back and checked, from an installed package."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from threading import Lock

from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..errors import InvalidArgument, SessionError
from ..sql.dialects import DIALECTS, Settings, migration_lock
from ..sql.dialects.sqlite import missing_file
from ..sql.engine.retry import pause, raise_translated
from ..sql.engine.temporary import temporary_engine
from ..sql.engine.urls import async_url
from ..sql.models import VERSION_TABLE, metadata, notices

__all__ = ["check", "create_tables", "current", "downgrade", "include_name", "script", "upgrade"]

HEAD = "sqlsessions@head"
COLLISIONS = 20
"""How often a migration is tried that meets another one, with pauses of up to half a second."""

_SETTINGS = Settings(
    pool_size=1,
    pool_timeout=30.0,
    connect_timeout=10.0,
    synchronous="FULL",
    busy_timeout=60.0,
    autocommit=False,
)
# Alembic keeps the running migration in module globals, so a process runs one at a time, over all
# threads, event loops and databases.
_running = Lock()


async def upgrade(url_or_engine: str | URL | AsyncEngine, revision: str = HEAD) -> None:
    """Bring the tables up to date; does nothing if they are.

    Processes that upgrade concurrently wait for each other. On PostgreSQL and SQLite an upgrade is one
    transaction; on MySQL, an interrupted one is finished by running it again. Tables that were created
    in another way, such as by `create_tables`, are taken over as they are.

    Args:
        url_or_engine: The database.
        revision: The revision to go to; the latest unless given.

    Raises:
        SchemaOutOfDate: If the tables are of a newer sqlsessions, or of another application.
    """
    await _migrate(url_or_engine, "upgrade", revision)


async def downgrade(url_or_engine: str | URL | AsyncEngine, revision: str) -> None:
    """Take the tables back to an earlier revision.

    Args:
        url_or_engine: The database.
        revision: The revision to go to; ``sqlsessions@base`` drops the tables and all sessions.

    Raises:
        SchemaOutOfDate: If the tables are of a newer sqlsessions, or of another application.
    """
    await _migrate(url_or_engine, "downgrade", revision)


async def current(url_or_engine: str | URL | AsyncEngine) -> str | None:
    """The revision of the database; None if `upgrade` never ran on it."""
    from .revisions import current_revision

    if not isinstance(url_or_engine, AsyncEngine) and missing_file(async_url(url_or_engine)):
        return None
    async with connected(url_or_engine) as connection:
        return await connection.run_sync(current_revision)


async def check(url_or_engine: str | URL | AsyncEngine) -> None:
    """Verify that the tables fit this version of sqlsessions. Changes nothing.

    Tables without a revision, created by an application that owns them, fit if they are complete.

    Raises:
        SchemaOutOfDate: If the tables are missing, behind, of a newer sqlsessions, or of another
            application; the message says which, and which command to run.
    """
    from .revisions import refuse_obstacles, refuse_shortfalls

    async with connected(url_or_engine) as connection:
        await connection.run_sync(refuse_obstacles)
        await connection.run_sync(refuse_shortfalls)


async def create_tables(url_or_engine: str | URL | AsyncEngine) -> None:
    """Create the tables as this version declares them, without running migrations.

    For tests and new databases. They are marked as up to date, so that a later `upgrade` begins from
    here. Does nothing if they exist and are up to date.

    Raises:
        SchemaOutOfDate: If tables exist that do not fit.
    """
    from .revisions import create_and_stamp

    async with connected(url_or_engine, make=True) as connection:
        await connection.run_sync(create_and_stamp)


async def script(url: str | URL) -> str:
    """The SQL that creates the tables in an empty database, without connecting to it.

    Args:
        url: The database; only its kind counts, and on PostgreSQL its ``schema``.
    """
    from .revisions import run_command

    output = io.StringIO()
    async with _alone():
        run_command("upgrade", HEAD, {"url": async_url(url)}, output, sql=True)
    return output.getvalue()


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:  # noqa: ARG001 (Alembic gives it)
    """Keep an application's autogenerate from dropping the tables of sqlsessions.

    For ``context.configure(include_name=...)`` in the application's own ``env.py``, unless its
    ``target_metadata`` includes these tables.

    Returns:
        False for these tables and their version table, with ``include_schemas=True`` in every schema; True for
        all else.
    """
    return type_ != "table" or name not in {*metadata.tables, VERSION_TABLE, notices.name}


@asynccontextmanager
async def connected(
    url_or_engine: str | URL | AsyncEngine, *, make: bool = False
) -> AsyncIterator[AsyncConnection]:
    """A connection for schema work; database errors are translated.

    Args:
        url_or_engine: The database.
        make: Whether a missing SQLite file may be created.
    """
    if isinstance(url_or_engine, AsyncEngine):
        dialect = DIALECTS[async_url(url_or_engine.url).get_backend_name()]
        try:
            async with url_or_engine.connect() as connection:
                yield connection
        except Exception as error:  # noqa: BLE001 (raised again, translated if it is the database's)
            raise_translated(dialect, error)
    else:
        async with (
            temporary_engine(url_or_engine, _SETTINGS, make=make) as engine,
            engine.connect() as connection,
        ):
            yield connection


class _Overtaken(SessionError):
    """A migration found the revision changed while it ran, as by another one that went ahead."""


async def _migrate(url_or_engine: str | URL | AsyncEngine, command: str, revision: str) -> None:
    from .revisions import current_revision, refuse_obstacles, run_command

    def run(connection: Connection) -> None:
        # MariaDB refuses to describe tables that another process is changing.
        with migration_lock(connection):
            refuse_obstacles(connection)
            before = current_revision(connection)
            try:
                run_command(command, revision, {"connection": connection})
            except InvalidArgument as error:
                if current_revision(connection) == before:
                    raise
                raise _Overtaken(str(error)) from error

    given = url_or_engine.url if isinstance(url_or_engine, AsyncEngine) else url_or_engine
    dialect = DIALECTS[async_url(given).get_backend_name()]
    for tries in range(COLLISIONS):
        last = tries == COLLISIONS - 1
        try:
            async with _alone(), connected(url_or_engine, make=command == "upgrade") as connection:
                await connection.run_sync(run)
        except _Overtaken as error:
            if last:
                raise InvalidArgument(str(error)) from error.__cause__
        except SessionError as error:
            # The lock may be none: CockroachDB's is not, and in a cluster it may be a node's own.
            if error.__cause__ is None or dialect.code(error.__cause__) not in dialect.collisions or last:
                raise
        else:
            return
        await asyncio.sleep(pause(tries))


@asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    while not _running.acquire(blocking=False):  # noqa: ASYNC110 (asyncio's locks serve one event loop)
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _running.release()
