"""What a database is asked for, with the answers that most of them give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from ssl import SSLError
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Table,
    func,
    inspect,
    literal_column,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ... import records
from ...errors import InvalidArgument, SchemaOutOfDate
from .unreached import unreached

LOCK_WAIT = 1.0
"""Seconds that a statement of a storage waits for a row that another transaction has locked."""

LONGEST_RETRY = 30.0
"""Seconds; after a minute the tombstone of a session may be gone, and an outcome cannot be resolved."""

SECOND = 1_000_000
"""A second in microseconds."""

HOUR = 3_600_000_000
"""An hour in microseconds, the coarse unit of ``expires_bucket``."""


NO_SCHEMA = "there is no schema {!r} in this database: create it, or correct its name"


def translated_schema(connection: Connection) -> str | None:
    """The schema that an engine puts in the place of the default one; None if it does not."""
    translated: Mapping[str | None, str] = (
        connection.get_execution_options().get("schema_translate_map") or {}
    )
    return translated.get(None)


class ErrorKind(Enum):
    """What a database error means for the operation that met it."""

    SCHEMA = auto()  # a table or column is missing
    RETRY = auto()  # the transaction was rolled back and may succeed next time
    LOCKED = auto()  # the same, since another transaction has a row locked
    STALE = auto()  # nothing was done: what this connection prepared is of tables that have changed since
    REFUSED = auto()  # nothing was done, and this connection is of no use; a new one may be
    LOST = auto()  # the connection is gone: whether the statement took effect is unknown
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to open connections, and use them; times in seconds.

    ``largest_value`` is the most bytes of data that one row has, ``durable_touches`` whether what only touches
    waits for the disk. ``lock_wait`` is how long a statement waits for a row, of connections that we open to a server
    without a pooler; None leaves it to the server.
    """

    pool_size: int
    pool_timeout: float
    connect_timeout: float
    synchronous: str
    busy_timeout: float
    retry_for: float = 5.0
    operation_timeout: float | None = 30.0
    autocommit: bool = True
    largest_value: int = 256 * 1024
    durable_touches: bool = True
    lock_wait: float | None = None

    @classmethod
    def checked(
        cls,
        *,
        pool_size: int,
        pool_timeout: float,
        connect_timeout: float,
        synchronous: str,
        busy_timeout: float,
        operation_timeout: float | None,
        retry_for: float,
        largest_value: int,
        durable_touches: bool,
    ) -> Settings:
        """The settings of a storage, from its arguments."""
        if not isinstance(synchronous, str) or synchronous.upper() not in ("FULL", "NORMAL"):
            raise InvalidArgument(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        return cls(
            pool_size=records.positive("pool_size", pool_size),
            pool_timeout=records.seconds("pool_timeout", pool_timeout),
            connect_timeout=records.seconds("connect_timeout", connect_timeout),
            synchronous=synchronous.upper(),
            busy_timeout=records.seconds("busy_timeout", busy_timeout),
            operation_timeout=(
                None if operation_timeout is None else records.seconds("operation_timeout", operation_timeout)
            ),
            retry_for=0.0 if retry_for == 0 else records.seconds("retry_for", retry_for, LONGEST_RETRY),
            largest_value=largest_value,
            durable_touches=durable_touches,
            lock_wait=LOCK_WAIT,
        )

    def patience(self, *, serial: bool) -> float | None:
        """Seconds for which an operation waits to be sent; None is any.

        Args:
            serial: Whether a writer waits for ``busy_timeout``.
        """
        if self.operation_timeout is None:
            return None
        wait = self.operation_timeout / 3
        return self.retry_for + (max(wait, self.busy_timeout) if serial else wait)


class Dialect(ABC):
    """One kind of database.

    Attributes:
        drivers: Its async drivers, the preferred one first, and the extra that installs each.
        begin: Statements that open a transaction fit for locking and writing.
        begin_own: The same on a connection that we opened, if less is enough there.
        moved_rows_escape: Whether a statement that waits for a row misses it if it has another id by then.
        key_hint: What makes a statement look for sessions by their ids, whatever else it says of them, if that needs
            saying.
        exact_levels: The isolation levels in which a caller's transaction misses no session of a subject; empty if all
            do.
        subject_hint: What makes a statement look for a subject's sessions by their index, and lock them in its order;
            None has them locked in the order of their ids.
        modules: Where errors that the drivers raise come from.
        serial: Whether one writer at a time is all that the database takes.
        remote: Whether it is a server, which may fall silent.
        replicas: Whether it is known of a replica how far it is.
        portable: Whether an idle connection may move to another event loop.
        transactional_ddl: Whether DDL is rolled back with its transaction.
        migration_options: Execution options of the transaction of a migration.
        collisions: Codes of errors that a migration meets if another one runs at the same time.
        polled: Whether triggers leave notices of changes, which processes poll.
        statement_bytes: The most bytes of data in a statement of several rows; None is any number.
        least: The function that gives the smallest of its arguments, none of which is NULL.
        greatest: The one that gives the largest.
    """

    drivers: ClassVar[dict[str, str]]
    begin: ClassVar[tuple[str, ...]]
    begin_own: ClassVar[tuple[str, ...] | None] = None
    moved_rows_escape: ClassVar[bool] = False
    key_hint: ClassVar[str | None] = None
    exact_levels: ClassVar[tuple[str, ...]] = ()
    subject_hint: ClassVar[str | None] = None
    modules: ClassVar[tuple[str, ...]]
    serial: ClassVar[bool] = False
    remote: ClassVar[bool] = True
    replicas: ClassVar[bool] = False
    portable: ClassVar[bool] = False
    transactional_ddl: ClassVar[bool] = True
    migration_options: ClassVar[Mapping[str, Any]] = {}
    collisions: ClassVar[frozenset[object]] = frozenset()
    polled: ClassVar[bool] = False
    statement_bytes: ClassVar[int | None] = None
    least: Any = func.least
    greatest: Any = func.greatest

    @abstractmethod
    def options(self, url: URL, settings: Settings) -> tuple[URL, dict[str, Any]]:
        """The URL and arguments of `create_async_engine` for an engine that we open.

        Raises:
            InvalidArgument: If the URL has an option that is not one of its driver.
        """

    @abstractmethod
    def connect_arguments(self, driver: str) -> Collection[str]:
        """The names of the arguments that a driver's ``connect`` takes."""

    @abstractmethod
    def now(self) -> ColumnElement[int]:
        """The time by the database's own clock, in microseconds since 1970 UTC."""

    @abstractmethod
    def stamp(self, data: bytes = b"", *, later: int = 0) -> ColumnElement[bytes]:
        """That time, or some microseconds later, as eight bytes, big-endian, and data after it."""

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT."""

    def not_durable(self, update: Any) -> Any:
        """Complete an UPDATE so that its commit does not wait for the disk, if the database can do that for one."""
        return update

    def overwriting(self, insert: Any, names: Collection[str]) -> Executable | None:
        """Complete an INSERT of rows that are there, and locked, so that it changes some columns of theirs.

        So one statement changes many rows; None if UPDATE is as good.
        """
        return None

    def waiting(self, insert: Any, column: ColumnElement[Any]) -> Executable:
        """Complete an INSERT of a row that others insert too, and delete before they commit: it waits for them."""
        statement: Executable = insert
        return statement

    def incoming(self, insert: Any) -> Any:
        """The columns that an INSERT which met an existing row would have inserted."""
        return insert.excluded

    def upsert(
        self,
        insert: Any,
        key: ColumnElement[Any],
        assignments: Sequence[tuple[str, ColumnElement[Any]]],
        condition: ColumnElement[bool],
        applied: ColumnElement[bool],
        returning: Sequence[ColumnElement[Any]],
    ) -> Executable:
        """Complete an INSERT so that it assigns to an existing row where the condition holds.

        It returns a row only if it wrote one, or the row as it now is.

        Args:
            insert: The INSERT.
            key: The column that tells rows apart.
            assignments: What is assigned to which column, the version first.
            condition: Where.
            applied: What holds of a row whose version was assigned.
            returning: What it returns; empty for nothing.
        """
        statement: Any = insert.on_conflict_do_update(
            index_elements=[key], set_=dict(assignments), where=condition
        )
        written: Executable = statement.returning(*returning) if returning else statement
        return written

    def hour(self, time: ColumnElement[int | None]) -> ColumnElement[int | None]:
        """The hour since 1970 of a time in microseconds."""
        hour: ColumnElement[Any] = time.op("/", return_type=Integer())(literal_column(str(HOUR)))
        return hour

    def subject_is(self, column: ColumnElement[str | None], subject: str) -> ColumnElement[bool]:
        """Whether a column holds just this subject, trailing spaces and all."""
        return column == subject

    def cut(self, connection: Any) -> None:
        """End a driver's connection to a server, so that the statement under way fails."""

    async def behind_pooler(self, connection: Any) -> bool:
        """Whether a driver's connection must only be used within transactions, for a pooler's sake."""
        return False

    def closed(self, connection: Any) -> bool:
        """Whether a driver's connection is known to have been closed by the server."""
        return False

    async def prepare(self, connection: AsyncConnection) -> None:
        """Make a connection of the caller's engine fit for our transactions."""

    def check_driver(self, connection: Any) -> None:
        """Refuse a driver's connection of the caller's that is unsafe, by what the driver knows of it."""

    async def replan(self, connection: AsyncConnection, table: str) -> None:
        """Have statements planned for the rows that there are now, after many were written at once."""

    async def check_session(self, connection: AsyncConnection, settings: Settings) -> None:
        """Refuse a connection of the caller's engine whose settings are in the way; asked once.

        Raises:
            StorageUnavailable: The message says what to change.
        """

    @abstractmethod
    async def identity(self, connection: AsyncConnection, schema: str | None) -> object:
        """What tells the tables that a connection sees in a schema, None being its default, from all others.

        None if they are not there, or no other connection can see them.
        """

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        """Set up the connections of an engine that we open."""

    def home(self, connection: Connection) -> str | None:
        """The schema that the tables are in or belong in; None is the only one.

        Raises:
            SchemaOutOfDate: If there is no such schema.
            StorageUnavailable: If the role may not use it.
        """
        name = translated_schema(connection)
        if name is not None and not inspect(connection).has_schema(name):
            raise SchemaOutOfDate(NO_SCHEMA.format(name))
        return name

    def found_in(self, connection: Connection, table: str) -> str | None:
        """The schema in which statements find a table, which may be another; None where there is no search path."""
        return None

    def script_opening(self, url: URL) -> Sequence[str]:
        """Statements that begin a script of the tables, for what its URL says."""
        return ()

    async def set_apart(self, connection: AsyncConnection) -> object:
        """What keeps the tenants of an engine apart and could be set for a transaction alone."""
        return None

    @abstractmethod
    def migration_lock(self, connection: Connection, *, joined: bool) -> AbstractContextManager[None]:
        """Hold the lock of the one process that migrates this database, in the running transaction.

        Args:
            connection: In a transaction.
            joined: Whether the caller began that transaction.

        Raises:
            StorageUnavailable: If another process held the lock for too long.
        """

    @abstractmethod
    def code(self, error: BaseException) -> object:
        """The database's own code of an error."""

    def raised(self, error: BaseException) -> bool:
        """Whether an error is one of the drivers' own, which SQLAlchemy let through."""
        module = type(error).__module__
        return module.partition(".")[0] in self.modules or module.startswith("sqlalchemy.dialects.")

    codes: ClassVar[Mapping[object, ErrorKind]] = {}

    def error_kind(self, error: BaseException) -> ErrorKind:
        """What an error means."""
        original = error.orig or error if isinstance(error, DBAPIError) else error
        if known := self.codes.get(self.code(original)):
            return known
        if isinstance(error, DBAPIError):
            return ErrorKind.LOST if error.connection_invalidated else self.kind_without_code(original)
        if isinstance(error, (ConnectionError, TimeoutError)) and not isinstance(error, PoolTimeout):
            return ErrorKind.LOST
        # No route, no such host now, or several addresses that refuse.
        if self.remote and isinstance(error, OSError) and not isinstance(error, (SSLError, PermissionError)):
            return ErrorKind.LOST
        return self.kind_without_code(error)

    def kind_without_code(self, error: BaseException) -> ErrorKind:
        """What an error without a known code means."""
        return ErrorKind.OTHER

    reasons: ClassVar[Mapping[object, str]] = {}

    def reason(self, error: BaseException) -> str | None:
        """Why the database refuses, and what to do about it, in a sentence; None if that is not known."""
        if isinstance(error, SSLError):
            return "TLS with the database failed: its certificate, or ours, is not accepted"
        return self.reasons.get(self.code(error)) or unreached(error)
