"""SQLite, through aiosqlite."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import aiosqlite
from sqlalchemy import URL, Connection, MetaData, Table, create_engine, event, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from ..._tasks import finish, wait_although_cancelled
from .base import Dialect, ErrorKind, Settings


class SQLite(Dialect):
    drivers: ClassVar = {"aiosqlite": ""}
    modules: ClassVar = ("aiosqlite", "sqlite3")
    begin: ClassVar = ("BEGIN IMMEDIATE",)
    serial: ClassVar = True
    remote: ClassVar = False
    portable: ClassVar = True
    migration_options: ClassVar = {"isolation_level": "SERIALIZABLE"}
    least: Any = func.min
    greatest: Any = func.max
    codes: ClassVar = {
        "no such table": ErrorKind.SCHEMA,
        "no such column": ErrorKind.SCHEMA,
        "has no column": ErrorKind.SCHEMA,
        "SQLITE_BUSY": ErrorKind.RETRY,
        "SQLITE_BUSY_SNAPSHOT": ErrorKind.RETRY,
        "SQLITE_BUSY_RECOVERY": ErrorKind.RETRY,
        "SQLITE_BUSY_TIMEOUT": ErrorKind.RETRY,
        "SQLITE_PROTOCOL": ErrorKind.RETRY,  # locking
        "SQLITE_LOCKED": ErrorKind.RETRY,
        "SQLITE_LOCKED_SHAREDCACHE": ErrorKind.RETRY,
        "SQLITE_CONSTRAINT_PRIMARYKEY": ErrorKind.RETRY,
    }

    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        return {"connect_args": {"timeout": settings.busy_timeout, "async_creator_fn": connect}}

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    async def prepare(self, connection: AsyncConnection) -> None:
        # The caller's engine may begin transactions of its own by an event, as SQLAlchemy's
        # documentation advises; a deferred one could not be made a writing one without a race.
        await connection.begin()
        raw = (await connection.get_raw_connection()).driver_connection
        if raw is not None and raw.in_transaction:
            await connection.exec_driver_sql("ROLLBACK")

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        @event.listens_for(engine.sync_engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
            except Exception as error:  # a database that cannot be written can still be read
                if self.code(error) != "SQLITE_READONLY":
                    raise
            cursor.execute(f"PRAGMA synchronous = {settings.synchronous}")
            cursor.close()

    @contextmanager
    def migration_lock(self, connection: Connection, *, joined: bool) -> Iterator[None]:
        driver = connection.connection.driver_connection
        assert driver is not None
        if driver.in_transaction and not joined:  # begun by an event of the caller's engine, deferred
            connection.exec_driver_sql("ROLLBACK")
        if not driver.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield

    def code(self, error: BaseException) -> object:
        cause = error
        while not hasattr(cause, "sqlite_errorname") and cause.__cause__:
            cause = cause.__cause__
        name = getattr(cause, "sqlite_errorname", None)
        if name == "SQLITE_ERROR":
            return next((text for text in self.codes if str(text) in str(cause)), name)
        return name


async def connect(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """Open a connection, or raise once it is closed and its thread has ended.

    aiosqlite leaves the thread of a connection that could not be opened to itself: it prints a
    traceback if the event loop is closed first, as it is when a command fails. A connection that was
    opened for a caller who was cancelled meanwhile stays open.
    """
    connection = aiosqlite.connect(*arguments, **options)
    thread: Any = getattr(connection, "_thread", connection)  # before 0.22 the connection is the thread
    thread.daemon = True
    opening = asyncio.create_task(_open(connection))
    try:
        return await finish(opening)
    except BaseException:
        await wait_although_cancelled(asyncio.create_task(_close(opening, thread)))
        raise


async def _open(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    return await connection


async def _close(opening: asyncio.Task[aiosqlite.Connection], thread: Any) -> None:
    with suppress(Exception):
        await (await opening).close()
    while thread.is_alive():  # noqa: ASYNC110 (a thread has no event to wait for)
        await asyncio.sleep(0.001)


def in_memory(url: URL) -> bool:
    """Whether a URL names a database that lives in memory and would be a new one on every connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


class SharedMemory:
    """A new database in memory that the connections of this process can share.

    It lives until it is closed, or until nothing refers to this object.

    Attributes:
        url: Of the database.
        close: Ends it; may be called again.
    """

    def __init__(self) -> None:
        # https://sqlite.org/src/file/src/memdb.c: names that begin with a slash are shared.
        name = f"file:/{secrets.token_hex(8)}"
        self.url = URL.create("sqlite+aiosqlite", database=name, query={"vfs": "memdb", "uri": "true"})
        keeper = sqlite3.connect(f"{name}?vfs=memdb", uri=True, check_same_thread=False)
        self.close = weakref.finalize(self, keeper.close)

    def create_tables(self, metadata: MetaData) -> None:
        """Create the tables, which no other process can do."""
        metadata.create_all(create_engine(self.url.set(drivername="sqlite"), poolclass=NullPool))


def database_file(url: URL) -> Path | None:
    """The file of a database; None if it is no file of this host, or the URL does not say."""
    name = url.database
    if url.get_backend_name() != "sqlite" or in_memory(url) or name is None or "vfs" in url.query:
        return None
    if name.startswith("file:"):  # https://www.sqlite.org/uri.html
        path = name.removeprefix("file:")
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]
        return None if path in ("", ":memory:") or "mode" in url.query else Path(unquote(path))
    return Path(name)


def missing_file(url: URL) -> Path | None:
    """The file of a database that connecting would make; None if there is one, or none would be made."""
    file = database_file(url)
    return file if file is not None and not file.exists() and file.parent.is_dir() else None
