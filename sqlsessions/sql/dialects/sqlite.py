"""SQLite, through aiosqlite."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import aiosqlite
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    create_engine,
    event,
    func,
    literal,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from ..._tasks import finish, wait_although_cancelled
from ...errors import InvalidArgument, StorageUnavailable
from .base import Dialect, ErrorKind, Settings
from .urls.sqlite import opening

CONNECT_ARGUMENTS = frozenset(
    {
        "async_creator_fn",
        "cached_statements",
        "check_same_thread",
        "detect_types",
        "factory",
        "iter_chunk_size",
        "timeout",
        "uri",
    }
)
"""What `sqlite3.connect` takes, whose signature is not to be had, without what begins transactions."""


PRIVATE = 0o600


class SQLite(Dialect):
    drivers: ClassVar = {"aiosqlite": ""}
    modules: ClassVar = ("aiosqlite", "sqlite3")
    begin: ClassVar = ("BEGIN IMMEDIATE",)
    serial: ClassVar = True
    subject_hint: ClassVar = (
        ""  # no rows are locked, and so in no order, for which all of them would be sorted
    )
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
    reasons: ClassVar = {
        "SQLITE_CANTOPEN": "the file of the database cannot be opened: its folder has to be there, and be writable",
        "SQLITE_NOTADB": "the file is no SQLite database: correct the URL, or move the file away",
        "SQLITE_READONLY": "the file of the database, or its folder, is not writable for this process",
        "SQLITE_FULL": "the disk of the database is full",
    }

    def options(self, url: URL, settings: Settings) -> tuple[URL, dict[str, Any]]:
        own = {"timeout": settings.busy_timeout, "async_creator_fn": connect}
        return url, {"connect_args": own | opening(url)}

    def connect_arguments(self, driver: str) -> Collection[str]:
        return CONNECT_ARGUMENTS

    def now(self) -> ColumnElement[int]:
        return literal(machine_time(), BigInteger())

    def stamp(self, data: bytes = b"", *, later: int = 0) -> ColumnElement[bytes]:
        return literal((machine_time() + later).to_bytes(8, "big") + data, LargeBinary())

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    async def prepare(self, connection: AsyncConnection) -> None:
        # The caller's engine may begin transactions of its own by an event, as SQLAlchemy's
        # documentation advises; a deferred one could not be made a writing one without a race.
        await connection.begin()
        raw = (await connection.get_raw_connection()).driver_connection
        if raw is not None and raw.in_transaction:
            await connection.exec_driver_sql("ROLLBACK")

    async def identity(self, connection: AsyncConnection, schema: str | None) -> object:
        databases: Any = await connection.exec_driver_sql("PRAGMA database_list")
        file = next((path for _, name, path in databases if name == (schema or "main")), None)
        return FileIdentity(Path(file)).seen if file else None

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


def machine_time() -> int:
    """The time in microseconds by the clock of this machine, on which all processes with the file run."""
    return time.time_ns() // 1000


async def connect(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    """Open a connection, or raise once it is closed and its thread has ended.

    aiosqlite leaves the thread of a connection that could not be opened to itself: it prints a
    traceback if the event loop is closed first, as it is when a command fails. A connection that was
    opened for a caller who was cancelled meanwhile stays open.
    """
    if arguments and not options.get("uri"):
        make_private(arguments[0])
    connection = aiosqlite.connect(*arguments, **options)
    thread: Any = getattr(connection, "_thread", connection)  # before 0.22 the connection is the thread
    thread.daemon = True
    opening = asyncio.create_task(_open(connection))
    try:
        return await finish(opening)
    except BaseException:
        await wait_although_cancelled(asyncio.create_task(_close(opening, thread)))
        raise


def make_private(name: str) -> None:
    """Make the file of a database that is not there yet, so that nobody but its owner can read it.

    SQLite gives the files beside it, -wal and -shm, its own mode, whatever the umask is.
    """
    if name in ("", ":memory:"):
        return
    with suppress(OSError):  # it is there, or cannot be made, which SQLite reports
        descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE)
        try:
            if hasattr(os, "fchmod"):  # what the umask took away
                os.fchmod(descriptor, PRIVATE)
        finally:
            os.close(descriptor)


async def _open(connection: aiosqlite.Connection) -> aiosqlite.Connection:
    _keep_from_log(connection)
    return await connection


def _keep_from_log(connection: Any) -> None:
    """Keep subjects and data out of aiosqlite's log, which at DEBUG has each call with its arguments."""
    execute = connection._execute  # noqa: SLF001

    async def executed(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        # Popped, so that an error's traceback refers to no cursor: that would keep a closed file open.
        calls = [partial(function, *arguments, **options)]
        del function, arguments, options

        def run() -> Any:
            return calls.pop()()

        return await execute(run)

    connection._execute = executed  # noqa: SLF001


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


def refuse_named_memory(url: URL) -> None:
    """Refuse a database in memory that has a name.

    Raises:
        InvalidArgument: If a URL names one.
    """
    name = url.database or ""
    if url.get_backend_name() == "sqlite" and (
        url.query.get("mode") == "memory"
        or url.query.get("vfs") == "memdb"
        or name.startswith("file::memory:")
        or "mode=memory" in name
    ):
        raise InvalidArgument(
            "url names a database in memory, which is gone with its last connection: write sqlite:// for one of the "
            "storage's own, which has its tables, or name a file, as in sqlite:///sessions.db"
        )


class FileIdentity:
    """Which file a database is, as long as it is open.

    Args:
        path: Of the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path.absolute())
        self._seen = self._look()

    @property
    def seen(self) -> tuple[int, int] | None:
        """The device and number of the file; None if there was none."""
        return self._seen

    def check(self) -> None:
        """Compare with the file that is there now.

        Raises:
            StorageUnavailable: If it was deleted or replaced, so that what is written would be lost.
        """
        if self._seen is None:
            self._seen = self._look()
        elif (found := self._look()) != self._seen:
            what = "deleted" if found is None else "replaced by another one"
            raise StorageUnavailable(
                f"the file of the SQLite database was {what} while the service has it open: bring it back, or "
                "restart the service"
            )

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)  # noqa: PTH116 (done for every write, for which a Path is slow)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def missing_file(url: URL) -> Path | None:
    """The file of a database that connecting would make; None if there is one, or none would be made."""
    file = database_file(url)
    return file if file is not None and not file.exists() and file.parent.is_dir() else None
