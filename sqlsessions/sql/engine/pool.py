"""The checkout of a connection from the pool, and when one is dropped instead of given back."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util.concurrency import greenlet_spawn

from ...errors import InvalidArgument, SessionError, StorageUnavailable
from ..dialects import Dialect, ErrorKind
from .engines import Engines, LoopState

UNUSABLE = frozenset({ErrorKind.STALE, ErrorKind.REFUSED, ErrorKind.LOST})
"""After these a connection is of no more use."""


class Checkout(AbstractAsyncContextManager[Any]):
    """A connection out of the pool, for one statement, transaction or batch.

    It waits for the write lock where the database takes one writer at a time, cuts off a server that
    does not answer, and behind a pooler opens the one transaction that holds the server connection. A class
    and not a generator, since every operation goes through here.

    The context is SQLAlchemy's `AsyncConnection` in autocommit, or the driver's own connection. One of
    our own engine's stays with its event loop afterwards, ready for the next batch, unless others wait.

    Args:
        engines: Where connections come from.
        writes: Whether something is to be written.
        sqlalchemy: Whether it is to be SQLAlchemy's connection.
    """

    __slots__ = (
        "_connection",
        "_engines",
        "_in_transaction",
        "_locked",
        "_pooled",
        "_raw",
        "_sqlalchemy",
        "_state",
        "_writes",
    )

    def __init__(self, engines: Engines, *, writes: bool, sqlalchemy: bool) -> None:
        self._engines = engines
        self._writes = writes
        self._sqlalchemy = sqlalchemy
        self._raw: Any = None
        self._in_transaction = False

    async def __aenter__(self) -> Any:
        state = self._state = self._engines.state()
        dialect = self._engines.dialect
        self._locked = state.one_connection or (self._writes and dialect.serial)
        if self._locked:
            await state.write_lock.acquire()
        state.checked_out += 1
        try:
            if self._writes:
                self._engines.check_file()
            if self._sqlalchemy:
                self._connection = await _connection(state, dialect)
                self._raw = (await self._connection.get_raw_connection()).driver_connection
            else:
                pooled, raw = state.kept_idle.pop() if state.kept_idle else await _pooled(state, dialect)
                while dialect.closed(raw):  # since it was last used
                    await greenlet_spawn(pooled.invalidate)
                    await greenlet_spawn(pooled.close)
                    pooled, raw = await _pooled(state, dialect)
                self._pooled, self._raw = pooled, raw
        except BaseException:
            self._release()
            raise
        # The server may be gone silently: the statement under way then ends as with any lost connection.
        if state.watchdog is not None:
            state.watchdog.watch(self._raw)
        if state.pooler is not False or (self._sqlalchemy and not self._engines.owned):
            await self._make_fit(state)
        return self._connection if self._sqlalchemy else self._raw

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._in_transaction and not _was_cut_off(error):
                await self._end_pooler_transaction(error)
            if self._sqlalchemy and not self._engines.owned and error is None:
                await self._connection.commit()
        except BaseException as failure:
            await self._give_back(failure)
            raise
        if error is None and not self._sqlalchemy and self._engines.owned and self._state.may_keep_idle():
            self._state.kept_idle.append((self._pooled, self._raw))
            self._release()
        else:
            await self._give_back(error)

    async def _make_fit(self, state: LoopState) -> None:
        try:
            if self._sqlalchemy and not self._engines.owned:
                await self._prepare(state)
            if state.pooler is not False:
                await self._begin_pooler_transaction(state)
        except BaseException as error:
            await self._give_back(error, drop=self._in_transaction)  # which may be open or not
            raise

    async def _prepare(self, state: LoopState) -> None:
        """Make a connection of the caller's engine fit for us, or refuse it."""
        dialect = self._engines.dialect
        dialect.check_driver(self._raw)
        apart: object = None
        if not state.checked:
            apart = await dialect.set_apart(self._connection)
            await self._connection.rollback()  # of the transaction that this may have begun
        await self._connection.execution_options(isolation_level="AUTOCOMMIT")
        await dialect.prepare(self._connection)
        if not state.checked:
            if await dialect.set_apart(self._connection) != apart:
                raise StorageUnavailable(
                    "an event of this engine sets the search_path or the role for a transaction alone, and most "
                    "statements of a storage have none: set it for the session, and commit that, in engine_connect"
                )
            await dialect.check_session(self._connection, self._engines.settings)
            state.checked = True

    async def _begin_pooler_transaction(self, state: LoopState) -> None:
        """Begin the one transaction of a checkout behind a pooler; there is none without a pooler."""
        if state.pooler is None:
            state.pooler = await self._engines.dialect.behind_pooler(self._raw)
        if state.pooler:
            self._in_transaction = True
            await self._raw.execute(self._engines.dialect.begin[0])

    async def _end_pooler_transaction(self, error: BaseException | None) -> None:
        if error is None:
            try:
                await self._raw.execute("COMMIT")
            except BaseException:
                await self._roll_back()
                raise
        else:
            await self._roll_back()

    async def _roll_back(self) -> None:
        if not self._raw.is_closed():
            await self._raw.execute("ROLLBACK")

    def _must_drop(self, error: BaseException | None) -> bool:
        """Whether a connection is dropped and not given back: it is unusable, or was left in mid-statement.

        A driver with a thread of its own finishes the statement, and the next one waits for that.
        """
        if error is None:
            return False
        if _was_cut_off(error):
            return not self._engines.dialect.serial
        return self._engines.dialect.error_kind(error) in UNUSABLE

    async def _give_back(self, error: BaseException | None, *, drop: bool = False) -> None:
        drop = drop or self._must_drop(error)
        try:
            if self._sqlalchemy:
                try:
                    if drop and not self._connection.invalidated:
                        await self._connection.invalidate()
                finally:
                    await self._connection.close()  # which may speak with the server, too
            else:
                if drop:
                    await greenlet_spawn(self._pooled.invalidate)
                await greenlet_spawn(self._pooled.close)
        finally:
            self._release()

    def _release(self) -> None:
        state = self._state
        if state.watchdog is not None:
            state.watchdog.release(self._raw)
        state.checked_out -= 1
        if state.idle is not None and not state.checked_out:
            state.idle.set()
        if self._locked:
            state.write_lock.release()


def _was_cut_off(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


async def _connection(state: LoopState, dialect: Dialect) -> AsyncConnection:
    state.waiting += 1
    try:
        await state.release_idle()
        return await state.engine.connect()
    except Exception as error:
        refuse_arguments(error, dialect)
        raise
    finally:
        state.waiting -= 1


async def _pooled(state: LoopState, dialect: Dialect) -> tuple[PoolProxiedConnection, Any]:
    state.waiting += 1
    try:
        pooled = await state.engine.raw_connection()
    except Exception as error:
        refuse_arguments(error, dialect)
        raise
    finally:
        state.waiting -= 1
    return pooled, pooled.driver_connection


def refuse_arguments(error: Exception, dialect: Dialect) -> None:
    """Report arguments that the driver's ``connect`` does not take, given the error that it raised.

    Raises:
        InvalidArgument: If it is what drivers raise for them.
    """
    if isinstance(error, SessionError):
        return
    original = error.orig if isinstance(error, DBAPIError) else error
    for cause in (original, getattr(original, "__cause__", None)):
        # TLS's errors are ValueErrors, too.
        if isinstance(cause, (TypeError, ValueError)) and not isinstance(cause, OSError):
            what = type(cause).__name__ if isinstance(cause, UnicodeError) else cause
            what = dialect.reason(cause) or what
            raise InvalidArgument(
                f"the driver cannot connect as url and engine_options say: {what}"
            ) from cause
