"""Engines, one for each event loop, and what else belongs to one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import URL, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import (
    AsyncAdaptedQueuePool,
    NullPool,
    Pool,
    PoolProxiedConnection,
    QueuePool,
    StaticPool,
)
from sqlalchemy.util.concurrency import greenlet_spawn

from ...errors import StorageUnavailable
from ..dialects import DIALECTS, Dialect, Settings
from ..dialects.sqlite import in_memory, shared_memory
from ..models import metadata
from .observer import Observer
from .urls import async_url

T = TypeVar("T")


@dataclass(eq=False)
class LoopState:
    """What belongs to one event loop.

    Attributes:
        writing: Held by whoever writes, where the database takes one writer at a time.
        tasks: What closing waits for.
        guard: Closes our engine when the event loop is shut down.
        kept_idle: Pooled connections that batches keep at hand.
        waiting: How many others want a connection.
        out: How many batches have one.
        idle: Set while none has.
        pool: The engine's.
        max_kept_idle: How many connections may be kept at hand.
        one_connection: Whether it is one connection for everybody.
        pooler: Whether connections are only to be used within transactions; None before the first one.
    """

    engine: AsyncEngine
    loop: asyncio.AbstractEventLoop
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    guard: AsyncGenerator[None] | None = None
    kept_idle: list[PoolProxiedConnection] = field(default_factory=list)
    waiting: int = 0
    pooler: bool | None = None
    out: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    pool: Pool = field(init=False)
    one_connection: bool = field(init=False)
    max_kept_idle: int = field(init=False)

    def __post_init__(self) -> None:
        """Look at the pool."""
        self.pool = self.engine.sync_engine.pool
        self.one_connection = isinstance(self.pool, StaticPool)
        self.max_kept_idle = self.pool.size() - 2 if isinstance(self.pool, QueuePool) else 0

    def may_keep_idle(self) -> bool:
        """Whether nobody waits for a connection, and two would be left for others."""
        return not self.waiting and len(self.kept_idle) < self.max_kept_idle

    async def release_idle(self, *, every: bool = False) -> None:
        """Give kept_idle connections back to the pool: one if it has none idle, or every one."""
        pool = self.pool
        while self.kept_idle and (every or not (isinstance(pool, QueuePool) and pool.checkedin())):
            await greenlet_spawn(self.kept_idle.pop().close)
            if not every:
                break


class Engines:
    """The engines of a database, for any number of event loops.

    An engine that we open belongs to one event loop; another loop gets an engine of its own. The
    caller's engine serves the loop that uses it.
    """

    def __init__(
        self, target: str | URL | AsyncEngine, settings: Settings, engine_options: Mapping[str, Any]
    ) -> None:
        self._settings = settings
        self._engine_options = engine_options
        self._loops: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self.closed = False
        self.observer: Observer | None = None
        self._first: asyncio.AbstractEventLoop | None = None
        self._theirs = target if isinstance(target, AsyncEngine) else None
        self._keeper: Any = None
        self.retry_for = settings.retry_for
        if isinstance(target, AsyncEngine):
            self.dialect: Dialect = DIALECTS[async_url(target.url).get_backend_name()]
            return
        self._url = async_url(target)
        self.dialect = DIALECTS[self._url.get_backend_name()]
        if in_memory(self._url):
            self._url, self._keeper = shared_memory(secrets.token_hex(8))
            # Nobody else can reach this database to migrate it.
            metadata.create_all(
                create_engine("sqlite://", creator=lambda: self._keeper, poolclass=StaticPool)
            )

    @property
    def driver(self) -> str:
        """The name of the async driver."""
        return async_url(self._theirs.url if self._theirs else self._url).get_driver_name()

    @property
    def engine(self) -> AsyncEngine:
        """The engine of the running event loop."""
        return self._here().engine

    async def enter(self) -> LoopState:
        """What belongs to the running event loop.

        Raises:
            StorageUnavailable: If the storage is closed.
        """
        if self.closed and not self._finishing():
            raise StorageUnavailable("the storage is closed")
        here = self._here()
        if here.guard is None:
            here.guard = self._guard(here)
            await anext(here.guard)
        return here

    def spawn(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Run something to its end whatever becomes of the caller; closing waits for it.

        Raises:
            StorageUnavailable: If the storage is closed and its connections are gone.
        """
        if self.closed and asyncio.get_running_loop() not in self._loops:
            raise StorageUnavailable("the storage is closed")
        here = self._here()
        task = here.loop.create_task(work())
        here.tasks.add(task)
        task.add_done_callback(here.tasks.discard)
        task.add_done_callback(_retrieve)
        return task

    async def aclose(self) -> None:
        """Wait for what is under way and dispose of our engines."""
        self.closed = True
        for here in list(self._loops.values()):
            if here.loop is asyncio.get_running_loop():
                await self._leave(here)
            elif here.loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._leave(here), here.loop))
        self._loops.clear()
        if self._keeper is not None:
            self._keeper.close()

    def _here(self) -> LoopState:
        loop = asyncio.get_running_loop()
        if (here := self._loops.get(loop)) is None:
            here = self._loops[loop] = LoopState(self._theirs or self._open(), loop)
            self._forget_closed()
            if self._theirs and not isinstance(self._theirs.pool, NullPool) and self._stranded(loop):
                del self._loops[loop]
                raise StorageUnavailable(
                    "this storage's engine belongs to another event loop: give the storage a URL, "
                    "or an engine with NullPool, to use it from several"
                )
        return here

    def _stranded(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the caller's engine has connections that another loop opened."""
        if self.dialect.portable:
            return len(self._loops) > 1
        self._first = self._first or loop
        return self._first is not loop

    def _open(self) -> AsyncEngine:
        options: dict[str, Any] = {
            "pool_size": self._settings.pool_size,
            "max_overflow": 0,
            "pool_timeout": self._settings.pool_timeout,
            "poolclass": AsyncAdaptedQueuePool,
            "pool_reset_on_return": None,  # every transaction is ended, or its connection dropped
            "isolation_level": "AUTOCOMMIT",  # a transaction is begun by a statement
            "skip_autocommit_rollback": True,  # and ended by one: spares a round trip for each operation
            "hide_parameters": True,  # they are session data
        }
        given = self.dialect.options(self._url, self._settings) | options | dict(self._engine_options)
        engine = create_async_engine(self._url, **given)
        self.dialect.opened(engine, self._settings)
        if self.dialect.remote:
            self._watch_new_connections(engine)
        return engine

    def _watch_new_connections(self, engine: AsyncEngine) -> None:
        """Cut off one that falls silent after the driver has made it and before the pool has it."""

        @event.listens_for(engine.sync_engine, "do_connect")
        def begin(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
            made = dialect.connect(*arguments, **options)
            wait = asyncio.get_running_loop().call_later
            record.info["watch"] = wait(
                self._settings.connect_timeout, self.dialect.cut, made.driver_connection
            )
            return made

        @event.listens_for(engine.sync_engine, "connect")  # the last of its listeners
        def end(_connection: Any, record: Any) -> None:
            if (watch := record.info.pop("watch", None)) is not None:
                watch.cancel()

    async def _guard(self, here: LoopState) -> AsyncGenerator[None]:
        """Closes our connections when the event loop is shut down without the storage being closed.

        `asyncio.run` and its like close the async generators that are still open.
        """
        try:
            yield
        finally:
            if here.loop in self._loops:
                await self._leave(here)

    async def _leave(self, here: LoopState) -> None:
        while here.tasks or here.out:  # what they spawn counts too, and a read that goes alone is no task
            await asyncio.gather(*here.tasks, return_exceptions=True)
            if here.out:
                await here.idle.wait()
        self._loops.pop(here.loop, None)
        if self._theirs is None:
            await here.release_idle(every=True)
            await here.engine.dispose()
        if here.guard is not None:
            with suppress(RuntimeError):  # it is the one who called
                await here.guard.aclose()

    def _finishing(self) -> bool:
        """Whether the running task is one that closing waits for."""
        here = self._loops.get(asyncio.get_running_loop())
        return here is not None and asyncio.current_task() in here.tasks

    def _forget_closed(self) -> None:
        for here in [here for here in self._loops.values() if here.loop.is_closed()]:
            del self._loops[here.loop]
            if self._theirs is None:
                here.kept_idle.clear()
                here.engine.sync_engine.dispose(close=False)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take the error of a task whose caller has left, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
