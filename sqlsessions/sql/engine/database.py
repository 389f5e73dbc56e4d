"""Work on a database: statements, transactions, and attempts at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..._tasks import finish
from ...errors import SessionConflict, SessionError, SessionNotFound
from ..dialects import Dialect, ErrorKind, Settings
from .engines import Engines
from .observer import Observer, Usage, Watch, usage
from .pool import Checkout
from .retry import Attempts, raise_translated
from .revision import RevisionWatch

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]
CheckoutFactory = Callable[..., AbstractAsyncContextManager[Any]]


class Database:
    """A database, for any number of event loops.

    Args:
        target: A URL, or the caller's engine.
        settings: How to open connections, and for how long to try.
        engine_options: More arguments of `create_async_engine`.

    Attributes:
        engines: Its engines, one for each event loop.
        dialect: Its kind.
        retry_for: Seconds for which an operation is tried again.
        patience: Seconds for which one waits to be sent, so that with an answer that does not come it takes no longer
            than one and a half times ``operation_timeout`` and ``retry_for``; None is any.
        observer: Notified of batches and retries, if not None.
        watch: Watches the transactions of batches, if not None.
        revision: Looks at the revision of the tables now and then.
    """

    def __init__(
        self, target: str | URL | AsyncEngine, settings: Settings, engine_options: Mapping[str, Any]
    ) -> None:
        self.engines = Engines(target, settings, engine_options)
        self.dialect: Dialect = self.engines.dialect
        self._begin = (self.engines.owned and self.dialect.begin_own) or self.dialect.begin
        self.retry_for = settings.retry_for
        self.patience = settings.patience(serial=self.dialect.serial)
        self.observer: Observer | None = None
        self.watch: Watch | None = None
        self.revision = RevisionWatch(self.engines, self.run)
        self.engines.on_enter = self.revision.begin

    @property
    def url(self) -> URL:
        """Its URL, with the async driver. Holds the password."""
        return self.engines.url

    @property
    def driver(self) -> str:
        """The name of the async driver."""
        return self.engines.url.get_driver_name()

    @property
    def engine(self) -> AsyncEngine:
        """The engine that serves the running event loop."""
        return self.engines.state().engine

    @property
    def usage(self) -> Usage:
        """How the connections of all event loops are used now; may be read in any thread."""
        return usage(self.engines.states())

    def connection(self, *, writes: bool) -> Checkout:
        """SQLAlchemy's connection out of the pool, in which every statement commits by itself."""
        return Checkout(self.engines, writes=writes, sqlalchemy=True)

    def driver_connection(self, *, writes: bool) -> Checkout:
        """The driver's own connection out of the pool, in no transaction."""
        return Checkout(self.engines, writes=writes, sqlalchemy=False)

    async def run(
        self, work: Work[T], *, resolve: Work[T | None] | None = None, checkout: CheckoutFactory | None = None
    ) -> T:
        """Run work that is one statement, which commits by itself.

        Args:
            work: Gets a connection; may be called again if what it did was rolled back or lost.
            resolve: For work that writes: called after a lost connection to find out whether the
                work took effect, and with which result; None says that it did not.
            checkout: Gives the connections, if not `connection` does.

        Raises:
            SchemaOutOfDate: If the tables are not there.
            StorageUnavailable: If the database cannot be reached, or does not take the work.
        """
        writes = resolve is not None
        return await self._run(work, resolve, checkout or self.connection, writes=writes)

    async def transaction(self, work: Work[T], *, resolve: Work[T | None] | None = None) -> T:
        """Run work in one transaction; else as `run`."""
        return await self._run(work, resolve, self.connection, writes=True, transaction=True)

    async def in_transaction(self, connection: AsyncConnection, work: Work[T]) -> T:
        """Do work in a transaction: all of it or nothing."""
        if self.engines.state().pooler:  # the checkout is one
            return await work(connection)
        try:
            for statement in self._begin:
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

    def attempts(self, retry_for: float | None = None) -> Attempts:
        """Attempts at work on this database, for some seconds unless for those of the storage."""
        seconds = self.retry_for if retry_for is None else retry_for
        return Attempts(self.dialect, seconds, self.notify_retry, self.revision.after_error)

    def notify_retry(self, kind: ErrorKind) -> None:
        """Notify the observer that work is tried again."""
        if self.observer is not None:
            self.observer.retry(kind.name)

    async def _run(
        self,
        work: Work[T],
        resolve: Work[T | None] | None,
        checkout: CheckoutFactory,
        *,
        writes: bool,
        transaction: bool = False,
    ) -> T:
        """Do work that is never cut off in the middle of a statement.

        A caller that is cancelled stops waiting for a connection at once; but once the work has one,
        the caller waits for its end, so that nothing of it takes effect after the call.
        """
        await self.engines.enter()
        attempts = self.attempts()

        async def attempt() -> T:
            async with checkout(writes=writes) as connection:
                attempts.connected = True
                if attempts.in_doubt and resolve and (outcome := await resolve(connection)) is not None:
                    return outcome
                if not transaction:
                    return await work(connection)
                try:
                    return await self.in_transaction(connection, work)
                except (SessionConflict, SessionNotFound):
                    # What was in doubt may have come to its end while this waited for its locks.
                    if attempts.in_doubt and resolve and (outcome := await resolve(connection)) is not None:
                        return outcome
                    raise

        async def all_attempts() -> T:
            try:
                return await attempts.run(attempt)
            except SessionError:
                raise
            except Exception as error:  # noqa: BLE001 (raised again, as ours if it is the database's)
                in_doubt = attempts.in_doubt and resolve is not None
                raise_translated(self.dialect, error, in_doubt=in_doubt)

        return await finish(self.engines.spawn(all_attempts), may_abandon=lambda: not attempts.connected)


async def _did_not_take_effect(_connection: AsyncConnection) -> None:
    """Resolve nothing."""


IDEMPOTENT: Work[None] = _did_not_take_effect
"""`resolve` for idempotent work: run it again."""
