"""The end of sessions in a transaction of the caller's: with a password change, or a deleted account."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, delete, event, false
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from ..errors import InvalidArgument, InvalidArgumentType, SessionError, StorageUnavailable
from ..info import JoinedTransaction
from .dialects import DIALECTS, ErrorKind
from .ending import Chosen, Ending
from .engine.database import IDEMPOTENT, Database
from .engine.retry import raise_translated
from .models import sessions
from .statements import chunks, in_doubt
from .statements.transactions import locked

logger = logging.getLogger("sqlsessions")

Report = Callable[[list[bytes]], Awaitable[None]]

COMMITS, ROLLBACKS = ("commit", "commit_twophase"), ("rollback", "rollback_twophase")
"""SQLAlchemy's events just before a transaction is committed, and before it is rolled back."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """Sessions that end if the caller's transaction is committed.

    Attributes:
        ended: The sessions.
        tombstone: The ``seq`` of their tombstones.
        report: Called with them after the commit.
        over: Called once the transaction is over, whichever way.
    """

    ended: list[bytes]
    tombstone: int
    report: Report
    over: list[Callable[[], Awaitable[None]]]


class CallersTransactions:
    """Ends sessions in transactions of the caller's, and reports that after their commits.

    Whether a transaction was committed is looked up in the database: that also holds where it was rolled back to
    a savepoint, or the reply to the commit was lost.

    Args:
        database: Where the sessions are.
        ending: Ends them.
        pin: Called with what was ended, for a replica.
    """

    def __init__(self, database: Database, ending: Ending, pin: Callable[[list[bytes]], None]) -> None:
        self._database = database
        self._ending = ending
        self._pin = pin
        self._identity: object = None
        self._pending: WeakKeyDictionary[Connection, list[_Pending]] = WeakKeyDictionary()

    async def end(self, given: Any, chosen: Chosen, report: Report) -> int:
        """End sessions over a connection of the caller's.

        Args:
            given: An `AsyncConnection` or `AsyncSession`, perhaps in a `JoinedTransaction`.
            chosen: Which sessions.
            report: Called with those that ended, after the commit.

        Returns:
            How many end with the commit.
        """
        watchers = []
        while isinstance(given, JoinedTransaction):
            watchers.append(given.ending)
            given = given.connection
        ended, tombstone = list[bytes](), chunks.new_tombstone()
        await self._database.engines.enter()
        try:
            connection = await _connection_of(given)
            await self._check(connection, exact=chosen.of_subject)
            over_tables: Any = _OverTables(connection, self._schema)
            if self._database.dialect.serial:  # begin to write before anything is read
                await over_tables.execute(delete(sessions).where(false()))
            try:
                await self._ending.end_within(over_tables, ended, chosen, tombstone)
            finally:
                if ended:
                    over = [watch([digest.hex() for digest in ended]) for watch in watchers]
                    self._watch(connection, _Pending(ended, tombstone, report, over))
        except SessionError:
            raise
        except Exception as error:  # noqa: BLE001 (raised again, as ours if it is the database's)
            if self._database.dialect.error_kind(error) is ErrorKind.RETRY:
                conflict = "the transaction of connection conflicts with others: roll it back, and do all of it again"
                raise StorageUnavailable(conflict) from getattr(error, "orig", error)
            raise_translated(self._database.dialect, error)
        return len(ended)

    @property
    def _schema(self) -> str | None:
        options = self._database.engine.sync_engine.get_execution_options()
        schema: str | None = (options.get("schema_translate_map") or {}).get(None)
        return schema

    async def _check(self, connection: AsyncConnection, *, exact: bool) -> None:
        """Refuse a connection over which the sessions could not end, or not all of them."""
        dialect, own = self._database.dialect, self._database.engine.sync_engine
        sync = connection.sync_connection
        if connection.closed or connection.invalidated or sync is None:
            raise InvalidArgument("connection is closed")
        if DIALECTS.get(sync.engine.url.get_backend_name()) is not dialect:
            raise InvalidArgument("connection is to another kind of database than the storage's")
        level = sync.get_execution_options().get(
            "isolation_level", getattr(sync.dialect, "_on_connect_isolation_level", None)
        )
        if level == "AUTOCOMMIT":
            raise InvalidArgument(
                "connection is in AUTOCOMMIT, in which each statement is committed by itself: give one in a transaction"
            )
        dialect.check_driver((await connection.get_raw_connection()).driver_connection)
        if (
            exact
            and dialect.exact_levels
            and await connection.get_isolation_level() not in dialect.exact_levels
        ):
            raise InvalidArgument(
                f"connection must be in {' or '.join(dialect.exact_levels)}, or a session whose id is being changed "
                "could be missed"
            )
        if sync.engine.pool is own.pool:
            return
        theirs = await dialect.identity(connection, self._schema)
        if theirs is None or theirs not in (self._identity, await self._own_identity(theirs)):
            raise InvalidArgument(
                "connection is to another database than the storage's, or to another schema of it"
            )

    async def _own_identity(self, expected: object) -> object:
        """What tells the storage's database from others; read anew if it is not as expected."""
        if self._identity != expected:
            identity = partial(self._database.dialect.identity, schema=self._schema)
            self._identity = await self._database.run(identity)
        return self._identity

    def _watch(self, connection: AsyncConnection, pending: _Pending) -> None:
        """Learn of the end of a transaction; the listeners stay, since none may be removed from within an event."""
        sync = connection.sync_connection
        assert sync is not None
        if sync not in self._pending:
            for name in COMMITS:
                event.listen(sync, name, self._committing)
            for name in ROLLBACKS:
                event.listen(sync, name, self._rolling_back)
        self._pending.setdefault(sync, []).append(pending)

    def _committing(self, sync: Connection, *_: Any) -> None:
        for pending in self._taken(sync):
            self._spawn(partial(self._settle, pending))

    def _rolling_back(self, sync: Connection, *_: Any) -> None:
        for pending in self._taken(sync):
            if pending.over:
                self._spawn(partial(_over, pending))

    def _taken(self, sync: Connection) -> list[_Pending]:
        pending = self._pending.get(sync, [])
        taken, pending[:] = pending[:], []
        return taken

    def _spawn(self, work: Callable[[], Any]) -> None:
        try:
            self._database.engines.spawn(work)
        except SessionError:  # the caller's transaction goes on
            logger.warning("the storage was closed before a transaction in which it ended sessions")

    async def _settle(self, pending: _Pending) -> None:
        """Report what ended, if it did, once the commit has come to its end."""
        try:
            ended = partial(_has_ended, digest=pending.ended[0], tombstone=pending.tombstone)
            committed = await self._database.transaction(ended, resolve=IDEMPOTENT)
            if committed:
                self._pin(pending.ended)
        except SessionError as error:
            logger.warning(
                "whether a transaction in which sessions were ended was committed is unknown: %s",
                type(error).__name__,
            )
            return
        finally:
            await _over(pending)
        if committed:
            await pending.report(pending.ended)


class _OverTables:
    """Executes statements of ours over a connection of the caller's, in the schema of the storage's tables."""

    def __init__(self, connection: AsyncConnection, schema: str | None) -> None:
        self._connection = connection
        self._options: Any = {"schema_translate_map": None if schema is None else {None: schema}}

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        return await self._connection.execute(statement, parameters, execution_options=self._options)


async def _connection_of(given: Any) -> AsyncConnection:
    if isinstance(given, AsyncSession):
        return await given.connection()
    if not isinstance(given, AsyncConnection):
        raise InvalidArgumentType(
            f"connection must be an AsyncConnection or an AsyncSession, not {type(given).__name__}"
        )
    return given


async def _has_ended(connection: AsyncConnection, digest: bytes, tombstone: int) -> bool:
    """Whether a session was ended by a transaction that may be about to be committed."""
    await locked(connection, sessions.c.id == digest)  # which waits for that transaction
    return await in_doubt.ended(connection, digest, tombstone)


async def _over(pending: _Pending) -> None:
    for over in pending.over:
        await over()
