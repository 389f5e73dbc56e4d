"""The checkout of a connection from the pool, and when one is dropped instead of given back."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util.concurrency import greenlet_spawn

from ..dialects import ErrorKind
from .engines import Engines, LoopState

UNUSABLE = frozenset({ErrorKind.REFUSED, ErrorKind.LOST})
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
        timeout: Seconds after which a server that does not answer is cut off; None waits for ever.
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
        "_timeout",
        "_watchdog",
        "_writes",
    )

    def __init__(self, engines: Engines, timeout: float | None, *, writes: bool, sqlalchemy: bool) -> None:
        self._engines = engines
        self._timeout = timeout
        self._writes = writes
        self._sqlalchemy = sqlalchemy
        self._raw: Any = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._in_transaction = False

    async def __aenter__(self) -> Any:
        state = self._state = self._engines.state()
        dialect = self._engines.dialect
        self._locked = state.one_connection or (self._writes and dialect.serial)
        if self._locked:
            await state.write_lock.acquire()
        state.checked_out += 1
        state.idle.clear()
        try:
            if self._sqlalchemy:
                self._connection = await _connection(state)
                self._raw = (await self._connection.get_raw_connection()).driver_connection
            else:
                pooled = state.kept_idle.pop() if state.kept_idle else await _pooled(state)
                while dialect.closed(pooled.driver_connection):  # since it was last used
                    await greenlet_spawn(pooled.invalidate)
                    await greenlet_spawn(pooled.close)
                    pooled = await _pooled(state)
                self._pooled, self._raw = pooled, pooled.driver_connection
        except BaseException:
            self._release()
            raise
        # The server may be gone silently: the statement under way then ends as with any lost connection.
        if self._timeout is not None and dialect.remote:
            self._watchdog = state.loop.call_later(self._timeout, dialect.cut, self._raw)
        if state.pooler is False and (self._engines.owned or not self._sqlalchemy):
            return self._connection if self._sqlalchemy else self._raw
        try:
            if self._sqlalchemy and not self._engines.owned:
                await self._connection.execution_options(isolation_level="AUTOCOMMIT")
                await self._engines.dialect.prepare(self._connection)
            if state.pooler is not False:
                await self._begin_pooler_transaction(state)
        except BaseException as error:
            await self._give_back(error, drop=self._in_transaction)  # which may be open or not
            raise
        return self._connection if self._sqlalchemy else self._raw

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._in_transaction:
                await self._end_pooler_transaction(error)
            if self._sqlalchemy and not self._engines.owned and error is None:
                await self._connection.commit()
        except BaseException as failure:
            await self._give_back(failure)
            raise
        if error is None and not self._sqlalchemy and self._engines.owned and self._state.may_keep_idle():
            self._state.kept_idle.append(self._pooled)
            self._release()
        else:
            await self._give_back(error)

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
        if not isinstance(error, Exception):
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
        if self._watchdog is not None:
            self._watchdog.cancel()
        state = self._state
        state.checked_out -= 1
        if not state.checked_out:
            state.idle.set()
        if self._locked:
            state.write_lock.release()


async def _connection(state: LoopState) -> AsyncConnection:
    state.waiting += 1
    try:
        await state.release_idle()
        return await state.engine.connect()
    finally:
        state.waiting -= 1


async def _pooled(state: LoopState) -> PoolProxiedConnection:
    state.waiting += 1
    try:
        return await state.engine.raw_connection()
    finally:
        state.waiting -= 1
