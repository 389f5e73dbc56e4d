"""Work on a database: connections, transactions, attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import SessionConflict, SessionError, SessionNotFound, StorageUnavailable
from ..dialects import ErrorKind
from .engines import Engines, LoopState
from .pool import DriverConnection
from .retry import DROPPED, UNKNOWN, Backoff, raise_translated, translated

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]
Connected = Callable[..., AbstractAsyncContextManager[Any]]

CANCEL_GRACE = 10.0  # seconds that a cancelled caller waits for its statement to end


class Database(Engines):
    """Runs work on a database, for any number of event loops."""

    async def run(
        self, work: Work[T], *, resolve: Work[T | None] | None = None, connected: Connected | None = None
    ) -> T:
        """Run work that is one statement, which commits by itself.

        Args:
            work: Gets a connection; may be called again if what it did was rolled back or lost.
            resolve: For work that writes: called after a lost connection to find out whether the
                work took effect, and with which result; None says that it did not.
            connected: Gives the connections, if not `connection` does.

        Raises:
            SchemaOutOfDate: If the tables are not there.
            StorageUnavailable: If the database cannot be reached, or does not take the work.
        """
        return await self._shielded(work, resolve, connected or self.connection, transaction=False)

    async def transaction(self, work: Work[T], *, resolve: Work[T | None] | None = None) -> T:
        """Run work in one transaction; else as `run`."""
        return await self._shielded(work, resolve, self.connection, transaction=True)

    async def _shielded(
        self, work: Work[T], resolve: Work[T | None] | None, open_: Connected, *, transaction: bool
    ) -> T:
        """Do work that is never cut off in the midst of a statement.

        A caller that is cancelled stops waiting for a connection at once; but once the work has one,
        the caller waits for its end, so that nothing of it takes effect after the call.
        """
        await self.enter()
        connected = asyncio.Event()
        task = self.spawn(partial(self._attempts, work, resolve, open_, connected, transaction=transaction))
        try:
            # Not `asyncio.shield`, which in newer Pythons reports the error of a task whose waiter left.
            await asyncio.wait({task})
            return task.result()
        except asyncio.CancelledError:
            if not connected.is_set():
                task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_GRACE)
            raise

    async def _attempts(
        self,
        work: Work[T],
        resolve: Work[T | None] | None,
        open_: Connected,
        connected: asyncio.Event,
        *,
        transaction: bool,
    ) -> T:
        backoff, lost = Backoff(self.retry_for), False
        while True:
            connected.clear()
            try:
                async with open_(writes=transaction or resolve is not None) as connection:
                    connected.set()
                    if lost and resolve and (outcome := await resolve(connection)) is not None:
                        return outcome
                    if not transaction:
                        return await work(connection)
                    try:
                        return await self.in_transaction(connection, work)
                    except (SessionConflict, SessionNotFound):
                        # What was lost may have come to its end while this waited for its locks.
                        if lost and resolve and (outcome := await resolve(connection)) is not None:
                            return outcome
                        raise
            except SessionError:
                raise
            except Exception as error:  # noqa: BLE001 (what is not a database error is raised as it is)
                fault = self.dialect.fault(error)
                lost = lost or (fault is ErrorKind.LOST and connected.is_set())
                if (pause := backoff.pause(fault)) is None:
                    if lost and resolve:
                        raise StorageUnavailable(UNKNOWN) from translated(self.dialect, error).__cause__
                    raise_translated(self.dialect, error)
            self.retried(fault)
            await asyncio.sleep(pause)

    def retried(self, fault: ErrorKind) -> None:
        """Say that an attempt is repeated."""
        if self.observer is not None:
            self.observer.retry(fault.name)

    @asynccontextmanager
    async def connection(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        """A connection from the pool, in which every statement commits by itself."""
        async with self._turn(writes=writes) as here, self._connected(here) as (connection, raw):
            try:
                if self._theirs is not None:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    await self.dialect.prepare(connection)
                async with self.pooler_transaction(here, raw):
                    yield connection
                if self._theirs is not None:
                    await connection.commit()
            except BaseException as error:
                # A pooler may still carry out what a caller that was cancelled has left.
                cut_off = bool(here.pooler) and not isinstance(error, Exception)
                if (cut_off or self.dialect.fault(error) in DROPPED) and not connection.invalidated:
                    await connection.invalidate()
                raise

    @asynccontextmanager
    async def pooler_transaction(self, here: LoopState, raw: Any) -> AsyncIterator[None]:
        """Behind a pooler, the one transaction of whoever has a driver's connection; else nothing."""
        if here.pooler is None:
            here.pooler = await self.dialect.behind_pooler(raw)
        if not here.pooler:
            yield
            return
        try:
            await raw.execute(self.dialect.begin[0])
            yield
            await raw.execute("COMMIT")
        except BaseException:
            if not raw.is_closed():
                await raw.execute("ROLLBACK")
            raise

    async def in_transaction(self, connection: AsyncConnection, work: Work[T]) -> T:
        """Do work in a transaction: all of it or nothing."""
        if self._here().pooler:  # it is in one
            return await work(connection)
        try:
            for statement in self.dialect.begin:
                await connection.exec_driver_sql(statement)
            result = await work(connection)
            await connection.exec_driver_sql("COMMIT")
        except BaseException:
            try:
                await connection.exec_driver_sql("ROLLBACK")
            except Exception:  # noqa: BLE001 (the first error is the one to report)
                await connection.invalidate()
            raise
        return result

    def start_watchdog(self, raw: Any) -> asyncio.TimerHandle | None:
        """Cut a connection off once it has been busy for too long: the server may be gone without a word.

        The statement under way then ends as with any other lost connection.
        """
        limit = self._settings.operation_timeout
        if limit is None or not self.dialect.remote:
            return None
        return asyncio.get_running_loop().call_later(limit, self.dialect.cut, raw)

    @asynccontextmanager
    async def _connected(self, here: LoopState) -> AsyncIterator[tuple[AsyncConnection, Any]]:
        here.waiting += 1
        try:
            await here.release_idle()
            connection = await here.engine.connect()
        finally:
            here.waiting -= 1
        raw = (await connection.get_raw_connection()).driver_connection
        watch = self.start_watchdog(raw)
        try:
            yield connection, raw
        finally:
            try:
                await connection.close()  # which may speak with the server, too
            finally:
                if watch is not None:
                    watch.cancel()

    def driver_connection(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        """The driver's own connection out of the pool, in no transaction.

        One of our own engine's stays with its event loop afterwards, ready for the next batch, as long
        as nobody waits for it.
        """
        return DriverConnection(self, self._here(), writes=writes)

    @asynccontextmanager
    async def _turn(self, *, writes: bool) -> AsyncIterator[LoopState]:
        here = self._here()
        if self.needs_write_lock(here, writes=writes):
            async with here.writing:
                yield here
        else:
            yield here

    def needs_write_lock(self, here: LoopState, *, writes: bool) -> bool:
        """Whether whoever wants a connection has to wait for the others."""
        return here.one_connection or (writes and self.dialect.serial)

    @property
    def may_keep_idle(self) -> bool:
        """Whether connections may stay with their event loop: not those of the caller's engine."""
        return self._theirs is None


async def _did_not_take_effect(_connection: AsyncConnection) -> None:
    """Resolve nothing."""


IDEMPOTENT: Work[None] = _did_not_take_effect
"""`resolve` for idempotent work: run it again."""
