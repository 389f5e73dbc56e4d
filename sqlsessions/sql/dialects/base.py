"""What a database is asked for, with the answers that most of them give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from ssl import SSLError
from typing import Any, ClassVar

from sqlalchemy import URL, ColumnElement, Connection, Executable, Integer, Table, func, literal_column
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

HOUR = 3_600_000_000
"""An hour in microseconds, the coarse unit of ``expires_bucket``."""


class ErrorKind(Enum):
    """What a database error means for the operation that met it."""

    SCHEMA = auto()  # a table or column is missing
    RETRY = auto()  # the transaction was rolled back and may succeed next time
    REFUSED = auto()  # nothing was done, and this connection is of no use; a new one may be
    LOST = auto()  # the connection is gone: whether the statement took effect is unknown
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Settings:
    """How to open connections, and use them; times in seconds."""

    pool_size: int
    pool_timeout: float
    connect_timeout: float
    synchronous: str
    busy_timeout: float
    retry_for: float = 5.0
    operation_timeout: float | None = 30.0
    autocommit: bool = True


class Dialect(ABC):
    """One kind of database.

    Attributes:
        drivers: Its async drivers, the preferred one first, and the extra that installs each.
        begin: Statements that open a transaction fit for locking and writing.
        modules: Where errors that the drivers raise come from.
        serial: Whether one writer at a time is all that the database takes.
        remote: Whether it is a server, which may fall silent.
        replicas: Whether it is known of a replica how far it is.
        portable: Whether an idle connection may move to another event loop.
        transactional_ddl: Whether DDL is rolled back with its transaction.
        migration_options: Execution options of the transaction of a migration.
        least: The function that gives the smallest of its arguments, none of which is NULL.
        greatest: The one that gives the largest.
    """

    drivers: ClassVar[dict[str, str]]
    begin: ClassVar[tuple[str, ...]]
    modules: ClassVar[tuple[str, ...]]
    serial: ClassVar[bool] = False
    remote: ClassVar[bool] = True
    replicas: ClassVar[bool] = False
    portable: ClassVar[bool] = False
    transactional_ddl: ClassVar[bool] = True
    migration_options: ClassVar[Mapping[str, Any]] = {}
    least: Any = func.least
    greatest: Any = func.greatest

    @abstractmethod
    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        """Arguments of `create_async_engine` for an engine that we open."""

    @abstractmethod
    def insert(self, table: Table) -> Any:
        """The dialect's own INSERT."""

    def incoming(self, insert: Any) -> Any:
        """The columns that an INSERT which met an existing row would have inserted."""
        return insert.excluded

    def upsert(
        self,
        insert: Any,
        key: ColumnElement[Any],
        assignments: Sequence[tuple[str, ColumnElement[Any]]],
        condition: ColumnElement[bool],
        returning: Sequence[ColumnElement[Any]],
    ) -> Executable:
        """Complete an INSERT so that it assigns to an existing row where the condition holds.

        It returns a row only if it wrote one, or the row as it now is.
        """
        statement: Executable = insert.on_conflict_do_update(
            index_elements=[key], set_=dict(assignments), where=condition
        ).returning(*returning)
        return statement

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

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        """Set up the connections of an engine that we open."""

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
