"""The drivers' own connections, out of the pool and back into it, with little ado."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util.concurrency import greenlet_spawn

from .engines import LoopState
from .retry import DROPPED

if TYPE_CHECKING:
    from .database import Database


class DriverConnection(AbstractAsyncContextManager[Any]):
    """See `Database.driver_connection`; a class, since every operation goes through here."""

    __slots__ = ("_database", "_here", "_locked", "_pin", "_pooled", "_watch", "_writes")

    def __init__(self, database: Database, here: LoopState, *, writes: bool) -> None:
        self._database = database
        self._here = here
        self._writes = writes

    async def __aenter__(self) -> Any:
        here, database = self._here, self._database
        self._locked = database.needs_write_lock(here, writes=self._writes)
        if self._locked:
            await here.writing.acquire()
        here.out += 1
        here.idle.clear()
        try:
            pooled = here.kept_idle.pop() if here.kept_idle else await _from_pool(here)
            while database.dialect.closed(pooled.driver_connection):  # since it was last used
                await greenlet_spawn(pooled.invalidate)
                await greenlet_spawn(pooled.close)
                pooled = await _from_pool(here)
        except BaseException:
            self._release()
            raise
        self._pooled = pooled
        self._watch = database.start_watchdog(pooled.driver_connection)
        self._pin = None
        if here.pooler is not False:
            self._pin = database.pooler_transaction(here, pooled.driver_connection)
            try:
                await self._pin.__aenter__()
            except BaseException as error:
                await self._give_back(error)
                raise
        return pooled.driver_connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pin is not None:
            try:
                await self._pin.__aexit__(kind, error, traceback)
            except BaseException as failed:
                await self._give_back(failed)
                raise
        await self._give_back(error)

    async def _give_back(self, error: BaseException | None) -> None:
        here, database, pooled = self._here, self._database, self._pooled
        if self._watch is not None:
            self._watch.cancel()
        try:
            if error is None and database.may_keep_idle and here.may_keep_idle():
                here.kept_idle.append(pooled)
                return
            if error is not None:
                cut_off = not isinstance(error, Exception) and not database.dialect.serial
                if cut_off or database.dialect.fault(error) in DROPPED:
                    await greenlet_spawn(pooled.invalidate)
            await greenlet_spawn(pooled.close)
        finally:
            self._release()

    def _release(self) -> None:
        here = self._here
        here.out -= 1
        if not here.out:
            here.idle.set()
        if self._locked:
            here.writing.release()


async def _from_pool(here: LoopState) -> PoolProxiedConnection:
    here.waiting += 1  # whoever is done meanwhile gives its connection back
    try:
        return await here.engine.raw_connection()
    finally:
        here.waiting -= 1
