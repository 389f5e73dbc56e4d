"""PostgreSQL, through asyncpg or psycopg.

A pooler such as PgBouncer may hand each transaction to another server connection. Statements that a driver
prepared are then on another server connection than the next transaction. psycopg is configured not to prepare.
asyncpg always prepares, by one message, and executes by another: its statements have no names, so that they
leave nothing behind, and are only sent within a transaction, which holds the server connection in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from os import dup
from socket import SHUT_RDWR, socket
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Table, event, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine

from .base import Dialect, ErrorKind, Settings

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

MIGRATION_KEY = 0x73716C7365737369
"""Our advisory lock, one for each database: "sqlsessi" as a number."""

NOT_NOW = (
    "Connection refused",
    "Connection reset",
    "server closed the connection",
    "No route to host",
    "Network is unreachable",
    "failed to resolve host",
    "connection timeout expired",
    "too many clients",
    "too many connections",
    "no more connections allowed",
    "connection slots are reserved",
    "the database system is",
)
"""What libpq says when connecting may go well a little later."""


class PostgreSQL(Dialect):
    drivers: ClassVar = {"asyncpg": "postgresql", "psycopg": "psycopg"}
    modules: ClassVar = ("asyncpg", "psycopg")
    replicas: ClassVar = True
    begin: ClassVar = (BEGIN,)
    # A transaction also on an engine in autocommit, which sees what was committed before the lock was granted.
    migration_options: ClassVar = {"isolation_level": "READ COMMITTED"}
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    codes: ClassVar = {
        "42P01": ErrorKind.SCHEMA,  # undefined_table
        "42703": ErrorKind.SCHEMA,  # undefined_column
        "3F000": ErrorKind.SCHEMA,  # invalid_schema_name
        "40001": ErrorKind.RETRY,  # serialization_failure
        "40P01": ErrorKind.RETRY,  # deadlock_detected
        "55P03": ErrorKind.RETRY,  # lock_not_available
        "23505": ErrorKind.RETRY,  # unique_violation: another transaction inserted the row we looked for
        "25006": ErrorKind.REFUSED,  # read_only_sql_transaction: this server is the primary no more
        "53300": ErrorKind.REFUSED,  # too_many_connections
        "57P03": ErrorKind.REFUSED,  # cannot_connect_now: starting up, or shutting down
        "57P01": ErrorKind.LOST,  # admin_shutdown
        "57P02": ErrorKind.LOST,  # crash_shutdown
        "57P05": ErrorKind.LOST,  # idle_session_timeout
        "25P03": ErrorKind.LOST,  # idle_in_transaction_session_timeout
        "25P04": ErrorKind.LOST,  # transaction_timeout
        "08000": ErrorKind.LOST,
        "08001": ErrorKind.REFUSED,  # sqlclient_unable_to_establish_sqlconnection
        "08003": ErrorKind.LOST,
        "08004": ErrorKind.REFUSED,  # sqlserver_rejected_establishment_of_sqlconnection
        "08006": ErrorKind.LOST,
        "08007": ErrorKind.LOST,  # transaction_resolution_unknown
        "08P01": ErrorKind.LOST,  # protocol_violation: a pooler without a server
    }

    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        if url.get_driver_name() == "asyncpg":
            connect = AsyncpgConnect(autocommit=settings.autocommit)
            return {
                "connect_args": {
                    "timeout": settings.connect_timeout,
                    "async_creator_fn": connect,
                    "prepared_statement_name_func": connect.statement_name,
                }
            }
        return {"connect_args": {"connect_timeout": max(1, round(settings.connect_timeout))}}

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        _configure(engine)

    async def behind_pooler(self, connection: Any) -> bool:
        return hasattr(connection, "get_server_pid") and await behind_pooler(connection)

    @contextmanager
    def migration_lock(self, connection: Connection, *, joined: bool) -> Iterator[None]:
        # Bound to the transaction, so that it works behind a pooler and cannot be left behind.
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_KEY)))
        yield

    def closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def code(self, error: BaseException) -> object:
        return getattr(error, "sqlstate", None)

    def cut(self, connection: Any) -> None:
        if hasattr(connection, "terminate"):
            connection.terminate()
        elif not connection.closed:  # psycopg waits on the socket itself
            with socket(fileno=dup(connection.fileno())) as shared:
                shared.shutdown(SHUT_RDWR)

    def kind_without_code(self, error: BaseException) -> ErrorKind:
        # asyncpg's own complaints: the connection is closed, or in no state to be used.
        if type(error).__name__ in ("InterfaceError", "InternalClientError") and self.raised(error):
            return ErrorKind.LOST
        # libpq gives no codes of what kept it from connecting.
        kept_out = type(error).__name__ in ("OperationalError", "ConnectionTimeout")
        if kept_out and any(text in str(error) for text in NOT_NOW):
            return ErrorKind.REFUSED
        return super().kind_without_code(error)


class AsyncpgConnect:
    """Opens connections of asyncpg that are fit for what is at the other end.

    Args:
        autocommit: Whether SQLAlchemy begins no transactions by itself.
    """

    def __init__(self, *, autocommit: bool) -> None:
        self._autocommit = autocommit
        self._pooler: bool | None = None

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Connect; behind a pooler, in a transaction for what SQLAlchemy asks first."""
        connect = import_module("asyncpg").connect
        if self._pooler:
            options["statement_cache_size"] = 0
        connection = await connect(*arguments, **options)
        try:
            async with asyncio.timeout(options.get("timeout")):  # the driver's own is over
                if self._pooler is None:
                    self._pooler = await behind_pooler(connection)
                    if self._pooler:
                        await connection.close()
                        return await self(*arguments, **options)
                if self._pooler and self._autocommit:
                    await connection.execute(BEGIN)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def statement_name(self) -> str | None:
        """The name of what SQLAlchemy prepares: none behind a pooler, else asyncpg's choice."""
        return "" if self._pooler else None


async def behind_pooler(connection: Any) -> bool:
    """Whether a connection of asyncpg ends at a pooler.

    There, the process that answers is not the one that was named when the connection was made. It is asked
    by the simple protocol, which takes one message and gives no rows: the answer is an error or none.
    """
    try:
        await connection.execute(f"SELECT 1 / (pg_backend_pid() = {connection.get_server_pid()})::int")
    except Exception as error:
        if getattr(error, "sqlstate", None) != "22012":  # division_by_zero
            raise
        return True
    return False


def _configure(engine: AsyncEngine) -> None:
    """Make the connections of an engine of ours fit for a pooler, if there is one."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        driver = connection.driver_connection
        if hasattr(driver, "prepare_threshold"):
            cursor = connection.cursor()
            cursor.execute("SELECT pg_backend_pid()")
            if cursor.fetchone()[0] != driver.info.backend_pid:
                driver.prepare_threshold = None
            cursor.close()
            connection.rollback()  # of what the question began
        elif connection._prepared_statement_name_func() == "":  # noqa: SLF001 (ours)
            connection._prepared_statement_cache = None  # noqa: SLF001 (nothing outlives a transaction)
            if driver.is_in_transaction():
                connection.run_async(lambda driver: driver.execute("COMMIT"))
