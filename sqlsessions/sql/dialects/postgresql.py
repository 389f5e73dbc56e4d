"""PostgreSQL, through asyncpg or psycopg.

A pooler such as PgBouncer may hand each transaction to another server connection. Statements that a driver
prepared are then on another server connection than the next transaction. psycopg is configured not to prepare.
asyncpg always prepares, by one message, and executes by another: its statements have no names, so that they
leave nothing behind, and are only sent within a transaction, which holds the server connection in between.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from os import dup
from socket import SHUT_RDWR, socket
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    LargeBinary,
    Table,
    cast,
    event,
    extract,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ...errors import StorageUnavailable
from .base import Dialect, ErrorKind, Settings, translated_schema
from .postgresql_schema import first_schema, found_in
from .urls.postgresql import Connecting, connecting, names_of_arguments, search_path, set_tcp_options
from .urls.query import UrlOptions

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


PROTOCOL_VIOLATION = "08P01"
NOT_SUPPORTED = "0A000"
STALE_PLAN = "stale plan"
LACKS_RIGHT = "42501"
NO_TLS, NOT_TRUSTED, NOT_PASSED_ON, NOT_UTF8 = "no TLS", "not trusted", "not passed on", "not UTF-8"
NEEDS_UTF8 = (
    "psycopg speaks another encoding than UTF-8 with this database: give the engine client_encoding='utf8'"
)

SAID_OF_CONNECTING = {
    'database ".*" does not exist': "3D000",
    'role ".*" does not exist': "28P01",
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    r"no pg_hba\.conf entry": "28000",
    r"pg_hba\.conf rejects": "28000",
    "permission denied for database": LACKS_RIGHT,
    "unrecognized configuration parameter": "42704",
    "invalid value for parameter": "22023",
    "rejected SSL upgrade": NO_TLS,
    "server does not support SSL": NO_TLS,
    "certificate verify failed": NOT_TRUSTED,
    "does not match host name": NOT_TRUSTED,
    "unsupported startup parameter": NOT_PASSED_ON,
}
"""What libpq says, and asyncpg without a code, when connecting would not go well later either."""


LACKING = {
    r"permission denied for schema (.+)": "the role lacks a right on the schema {}: grant it USAGE there, and CREATE "
    "to run `sqlsessions upgrade`",
    r"permission denied for (?:table|relation|view) (.+)": "the role lacks a right on the table {}: grant it SELECT, "
    "INSERT, UPDATE and DELETE there",
    r"must be owner of \w+ (.+)": "the role does not own {}: run `sqlsessions upgrade` as the role that does",
    r'row-level security policy for table "(.+)"': "row-level security of the table {} forbids the row: give the role "
    "a policy that shows it all rows",
}
"""What the server says, in English, of a right that is missing, and what that means."""


class PostgreSQL(Dialect):
    drivers: ClassVar = {"asyncpg": "postgresql", "psycopg": "psycopg"}
    modules: ClassVar = ("asyncpg", "psycopg")
    replicas: ClassVar = True
    begin: ClassVar = (BEGIN,)
    # A transaction also on an engine in autocommit, which sees what was committed before the lock was granted.
    migration_options: ClassVar = {"isolation_level": "READ COMMITTED"}
    # A table, object, column or row that is there by now; a transaction to be tried again.
    collisions: ClassVar = frozenset({"42P07", "42710", "42701", "23505", "40001", "40P01"})
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    codes: ClassVar = {
        "42P01": ErrorKind.SCHEMA,  # undefined_table
        "42703": ErrorKind.SCHEMA,  # undefined_column
        "3F000": ErrorKind.SCHEMA,  # invalid_schema_name
        "42804": ErrorKind.SCHEMA,  # datatype_mismatch: the table is another application's
        "42883": ErrorKind.SCHEMA,  # undefined_function, such as integer = bytea
        "40001": ErrorKind.RETRY,  # serialization_failure
        "40P01": ErrorKind.RETRY,  # deadlock_detected
        "55P03": ErrorKind.LOCKED,  # lock_not_available
        "23505": ErrorKind.RETRY,  # unique_violation: another transaction inserted the row we looked for
        "25006": ErrorKind.REFUSED,  # read_only_sql_transaction: this server is the primary no more
        "53300": ErrorKind.REFUSED,  # too_many_connections
        "57P03": ErrorKind.REFUSED,  # cannot_connect_now: starting up, or shutting down
        "57014": ErrorKind.RETRY,  # query_canceled, as by statement_timeout
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
        PROTOCOL_VIOLATION: ErrorKind.LOST,  # protocol_violation: a pooler without a server
        STALE_PLAN: ErrorKind.STALE,
        NO_TLS: ErrorKind.OTHER,  # a ConnectionError of asyncpg's
    }

    reasons: ClassVar = {
        "28000": "the database does not let this user in, from here or without TLS",
        "28P01": "the database does not accept the user and password",
        "3D000": "the server has no database of this name",
        LACKS_RIGHT: "the role lacks a right: grant it SELECT, INSERT, UPDATE and DELETE on its tables, USAGE on "
        "their schema, and a policy that shows it all rows",
        "22P05": "the encoding of the database lacks a character of a subject: UTF8 has them all",
        NOT_UTF8: NEEDS_UTF8,
        "42704": "the server does not know a setting that the URL names",
        "22023": "the server does not take the value of a setting that the URL names",
        "25006": "the database is read-only, or this role's default_transaction_read_only is on",
        "53100": "the disk of the database is full",
        "55P03": "another transaction has locked what the operation needs for longer than lock_timeout",
        NO_TLS: "the server has no TLS, which the URL asks for: set it up there, or write sslmode=prefer",
        NOT_TRUSTED: "the server's certificate is not signed by the authority of sslrootcert, or is another host's",
        NOT_PASSED_ON: "the pooler does not pass on a setting that the URL names: set it for the role, as in "
        "ALTER ROLE app SET search_path = app",
        "57014": "a statement took longer than the role's statement_timeout: raise it",
    }

    def options(self, url: URL, settings: Settings) -> tuple[URL, dict[str, Any]]:
        how = connecting(url)
        own: dict[str, Any]
        if url.get_driver_name() == "asyncpg":
            connect = AsyncpgConnect(how, settings)
            own = {
                "timeout": settings.connect_timeout,
                "async_creator_fn": connect,
                "prepared_statement_name_func": connect.statement_name,
            }
        else:
            # Else it speaks the database's own encoding, and takes text of SQL_ASCII for bytes.
            own = {"connect_timeout": max(1, round(settings.connect_timeout)), "client_encoding": "utf8"}
        return url.set(query={}), {"connect_args": own | dict(how.arguments)}

    def connect_arguments(self, driver: str) -> Collection[str]:
        return names_of_arguments(driver)

    def now(self) -> ColumnElement[int]:
        seconds = extract("epoch", func.clock_timestamp())
        return cast(seconds * literal_column("1000000"), BigInteger)

    def stamp(self, data: bytes = b"", *, later: int = 0) -> ColumnElement[bytes]:
        time = func.int8send(self.now() + literal_column(str(later)), type_=LargeBinary())
        return time.concat(data) if data else time

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        _configure(engine, settings)

    def not_durable(self, update: Any) -> Any:
        # https://www.postgresql.org/docs/current/wal-async-commit.html; it is set for the transaction alone.
        set_off = func.set_config(
            literal_column("'synchronous_commit'"), literal_column("'off'"), literal_column("true")
        )
        return update.where(set_off == literal_column("'off'"))

    async def replan(self, connection: AsyncConnection, table: str) -> None:
        # Statements keep the plans of when the table was small, which read all of it. Where autovacuum is off, for
        # ever. Without the right to do this there is a warning of the server's, and no error.
        quote = connection.dialect.identifier_preparer.quote
        schema = await connection.run_sync(translated_schema)
        name = quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"
        await connection.exec_driver_sql(f"ANALYZE {name}")

    async def identity(self, connection: AsyncConnection, schema: str | None) -> object:
        found = await connection.execute(_IDENTITY, {"schema": schema})
        server, database, table = found.one()
        return None if table is None else (server, database, table)

    async def behind_pooler(self, connection: Any) -> bool:
        return hasattr(connection, "get_server_pid") and await behind_pooler(connection)

    @contextmanager
    def migration_lock(self, connection: Connection, *, joined: bool) -> Iterator[None]:
        # Bound to the transaction, so that it works behind a pooler and cannot be left behind.
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_KEY)))
        yield

    def home(self, connection: Connection) -> str | None:
        return first_schema(connection, translated_schema(connection))

    def script_opening(self, url: URL) -> Sequence[str]:
        path = search_path(UrlOptions(url))
        return [] if path is None else [f"SET LOCAL search_path TO {path}"]

    def found_in(self, connection: Connection, table: str) -> str | None:
        return None if translated_schema(connection) else found_in(connection, table)

    async def set_apart(self, connection: AsyncConnection) -> object:
        found = await connection.exec_driver_sql("SELECT current_user, current_setting('search_path')")
        return tuple(found.one())

    def check_driver(self, connection: Any) -> None:
        if (info := getattr(connection, "info", None)) is not None and info.encoding != "utf-8":
            raise StorageUnavailable(NEEDS_UTF8)

    def raised(self, error: BaseException) -> bool:
        return super().raised(error) or self.code(error) == NOT_UTF8

    def reason(self, error: BaseException) -> str | None:
        if self.code(error) == LACKS_RIGHT:
            said = str(error).partition("\n")[0]
            for words, meaning in LACKING.items():
                if found := re.search(words, said):
                    return meaning.format(found[1])
        return super().reason(error)

    def closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def code(self, error: BaseException) -> object:
        if isinstance(error, TypeError) and "string pattern on a bytes-like object" in str(error):
            return NOT_UTF8  # of SQLAlchemy, asking psycopg for the version of the server
        found = getattr(error, "sqlstate", None)
        if found in (None, NOT_SUPPORTED) and is_stale_plan(error):
            return STALE_PLAN
        if found in (None, PROTOCOL_VIOLATION):
            return next(
                (code for text, code in SAID_OF_CONNECTING.items() if re.search(text, str(error))), found
            )
        return found

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


_IDENTITY = text(
    "SELECT CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint), "
    "(SELECT CAST(oid AS bigint) FROM pg_database WHERE datname = current_database()), "
    "CAST(CAST(to_regclass(concat(quote_ident(CAST(:schema AS text)) || '.', 'sessions')) AS oid) AS bigint)"
)


def is_stale_plan(error: BaseException) -> bool:
    """Whether a prepared statement is refused since its tables were altered, in whichever language.

    asyncpg says so in words of its own; psycopg passes on which function of the server complains.
    """
    function = getattr(getattr(error, "diag", None), "source_function", None)
    return function == "RevalidateCachedQuery" or "cached statement plan is invalid" in str(error)


class AsyncpgConnect:
    """Opens connections of asyncpg that are fit for what is at the other end.

    Args:
        how: What the URL says.
        settings: Whether SQLAlchemy begins no transactions by itself, and how long to wait for locks.
    """

    def __init__(self, how: Connecting, settings: Settings) -> None:
        self._settings = settings
        self._tcp = how.tcp or {}
        self._pooler: bool | None = None if how.prepares else True

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Connect; behind a pooler, in a transaction for what SQLAlchemy asks first."""
        connect = import_module("asyncpg").connect
        if self._pooler:
            options["statement_cache_size"] = 0
        connection = await connect(*arguments, **options)
        set_tcp_options(connection, self._tcp)
        try:
            async with asyncio.timeout(options.get("timeout")):  # the driver's own is over
                if self._pooler is None:
                    self._pooler = await behind_pooler(connection)
                    if self._pooler:
                        await connection.close()
                        return await self(*arguments, **options)
                if self._pooler and self._settings.autocommit:
                    await connection.execute(BEGIN)
                elif not self._pooler and self._settings.lock_wait is not None:
                    await connection.execute(set_lock_wait(self._settings.lock_wait))
        except BaseException:
            connection.terminate()
            raise
        return connection

    def statement_name(self) -> str | None:
        """The name of what SQLAlchemy prepares: none behind a pooler, else asyncpg's choice."""
        return "" if self._pooler else None


def set_lock_wait(seconds: float) -> str:
    """Set how long to wait for locks, unless the role or the URL does."""
    wait = round(seconds * 1000)
    return f"SELECT set_config('lock_timeout', '{wait}', false) WHERE current_setting('lock_timeout') = '0'"


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


def _configure(engine: AsyncEngine, settings: Settings) -> None:
    """Make the connections of an engine of ours fit for a pooler, if there is one; else set how to wait for locks."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        driver = connection.driver_connection
        if hasattr(driver, "prepare_threshold"):
            cursor = connection.cursor()
            cursor.execute("SELECT pg_backend_pid()")
            if cursor.fetchone()[0] != driver.info.backend_pid:
                driver.prepare_threshold = None
            elif settings.lock_wait is not None:
                cursor.execute(set_lock_wait(settings.lock_wait))
            cursor.close()
            connection.commit()  # of what the question began
        elif connection._prepared_statement_name_func() == "":  # noqa: SLF001 (ours)
            connection._prepared_statement_cache = None  # noqa: SLF001 (nothing outlives a transaction)
            if driver.is_in_transaction():
                connection.run_async(lambda driver: driver.execute("COMMIT"))
