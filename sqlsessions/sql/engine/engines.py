"""Engines, one for each event loop, and what else belongs to one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import URL, event
from sqlalchemy.exc import ArgumentError
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

from ..._tasks import retrieve_exception
from ...errors import InvalidArgument, SessionError, StorageClosed, WrongEventLoop
from ..dialects import DIALECTS, Dialect, Settings
from ..dialects.sqlite import FileIdentity, SharedMemory, database_file, in_memory, refuse_named_memory
from ..models import metadata
from . import options
from .forks import Forks, inherited_engine, inherited_sqlite
from .urls import async_url
from .watchdog import Watchdog

T = TypeVar("T")

BLOCKED_AFTER = 1.0  # seconds without a reaction of another event loop

logger = logging.getLogger("sqlsessions")


@dataclass(eq=False)
class LoopState:
    """What belongs to one event loop.

    Attributes:
        engine: The engine that serves it.
        loop: The event loop.
        write_lock: Held by the writer, where the database takes one at a time.
        tasks: What closing waits for.
        guard: Closes our engine when the event loop is shut down.
        kept_idle: Pooled connections kept at hand for the next batch, each with the driver's own.
        waiting: How many callers wait for a connection.
        checked_out: How many connections are checked out.
        idle: Set once none is, if closing waits for that.
        watchdog: Cuts off servers that do not answer; None waits for them.
        queues: The queues of each `BatchExecutor`.
        pooler: Whether connections are only to be used within transactions; None before the first one.
        checked: Whether the settings of a connection of the caller's were looked at.
        timer: Of the next look at the revision of the tables.
        pool: The engine's.
        one_connection: Whether the pool is a single connection.
        max_kept_idle: How many connections may be kept at hand.
    """

    engine: AsyncEngine
    loop: asyncio.AbstractEventLoop
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Future[Any]] = field(default_factory=set)
    guard: AsyncGenerator[None] | None = None
    kept_idle: list[tuple[PoolProxiedConnection, Any]] = field(default_factory=list)
    waiting: int = 0
    checked_out: int = 0
    idle: asyncio.Event | None = None
    watchdog: Watchdog | None = None
    queues: dict[object, Any] = field(default_factory=dict)
    pooler: bool | None = None
    checked: bool = False
    timer: asyncio.TimerHandle | None = None
    pool: Pool = field(init=False)
    one_connection: bool = field(init=False)
    max_kept_idle: int = field(init=False)

    def __post_init__(self) -> None:
        """Look at the pool."""
        self.pool = self.engine.sync_engine.pool
        self.one_connection = isinstance(self.pool, StaticPool)
        # Two connections stay in the pool for others.
        self.max_kept_idle = 0
        if isinstance(self.pool, QueuePool) and not (self.pool._pre_ping or self.pool._recycle > -1):  # noqa: SLF001
            self.max_kept_idle = self.pool.size() - 2  # the pool looks at those that it gives out

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Forget a task of which closing need not wait any more."""
        self.tasks.discard(task)
        retrieve_exception(task)

    def may_keep_idle(self) -> bool:
        """Whether a connection may be kept at hand: not while others wait for one."""
        return not self.waiting and len(self.kept_idle) < self.max_kept_idle

    async def release_idle(self, *, every: bool = False) -> None:
        """Give kept connections back to the pool: one if the pool has none idle, or every one."""
        pool = self.pool
        while self.kept_idle and (every or not (isinstance(pool, QueuePool) and pool.checkedin())):
            pooled, _ = self.kept_idle.pop()
            await greenlet_spawn(pooled.close)
            if not every:
                break


_INHERITED_FILES: set[str] = set()
"""SQLite's databases that the parent of this process had open when it was forked."""


class Engines:
    """The engines of a database, for any number of event loops.

    An engine that we open belongs to one event loop; another loop gets an engine of its own. The
    caller's engine serves the loop that uses it.

    Args:
        target: A URL, or the caller's engine.
        settings: How to open connections.
        engine_options: More arguments of `create_async_engine`; its ``connect_args`` are added to ours.

    Attributes:
        owned: Whether the engines are ours: opened from a URL, and disposed of with the storage.
        url: Of the database.
        dialect: Its kind.
        settings: How connections are opened and used.
        direct: Whether a driver's own connection acts as SQLAlchemy's would: not where an engine translates
            schemas, or has events for what its connections begin with.
        closed: Whether `aclose` was called.
        on_enter: Called with the state of each event loop when it is entered first.

    Raises:
        InvalidArgument: If an option is unknown, or one that is ours to set.
    """

    def __init__(
        self, target: str | URL | AsyncEngine, settings: Settings, engine_options: Mapping[str, Any]
    ) -> None:
        self.settings = settings
        self._options = engine_options
        self._states: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._first_loop: asyncio.AbstractEventLoop | None = None
        self._callers = target if isinstance(target, AsyncEngine) else None
        self._memory: SharedMemory | None = None
        self._forks = Forks(self._leave_to_parent)
        self.closed = False
        self.on_enter: Callable[[LoopState], object] = lambda _state: None
        self.owned = self._callers is None
        self.url = async_url(target.url if isinstance(target, AsyncEngine) else target)
        self.dialect: Dialect = DIALECTS[self.url.get_backend_name()]
        if self.owned:
            refuse_named_memory(self.url)
        if self.owned and in_memory(self.url):
            self._memory = SharedMemory()
            self._memory.create_tables(metadata)
            self.url = self._memory.url
        file = database_file(self.url)
        self._file = None if file is None else FileIdentity(file)
        if self.owned:
            options.check(self._options)
            options.check_connect_args(self.dialect, self.url, self._options.get("connect_args", {}))
        self.direct = self._is_direct(self._callers or self._validated_engine())

    def state(self) -> LoopState:
        """The state of the running event loop.

        Raises:
            WrongEventLoop: If the caller's engine has connections of another event loop.
        """
        loop = asyncio.get_running_loop()
        return self._states.get(loop) or self._add(loop)

    def check_file(self) -> None:
        """Check that the file of a SQLite database is the one that our connections have open, before a write.

        Raises:
            StorageUnavailable: If it was deleted or replaced.
        """
        if self._file is not None:
            self._file.check()

    def known_state(self) -> LoopState | None:
        """The same, if the event loop was entered already and the storage is open; else see `enter`."""
        return None if self.closed else self._states.get(asyncio.get_running_loop())

    def states(self) -> list[LoopState]:
        """The states of all event loops; may be called from any thread."""
        return list(self._states.values())

    async def enter(self) -> LoopState:
        """The state of the running event loop, before work is done.

        Raises:
            StorageUnavailable: If the storage is closed.
        """
        if self.closed and not self._in_own_task():
            raise StorageClosed("the storage is closed")
        state = self.state()
        if state.guard is None:
            state.guard = self._close_with_loop(state)
            await anext(state.guard)
            self.on_enter(state)
        return state

    def spawn(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Run work to its end whatever becomes of the caller; closing waits for it.

        Raises:
            StorageUnavailable: If the storage is closed and its connections are gone.
        """
        if self.closed and asyncio.get_running_loop() not in self._states:
            raise StorageClosed("the storage is closed")
        state = self.state()
        task = state.loop.create_task(work())
        state.tasks.add(task)
        task.add_done_callback(state.ended)
        return task

    async def aclose(self) -> None:
        """Wait for work under way and dispose of our engines."""
        self.closed = True
        for state in self.states():
            if state.loop is asyncio.get_running_loop():
                await self._leave(state)
            elif state.loop.is_running():
                await self._leave_elsewhere(state)
        self._states.clear()
        if self._memory is not None:
            self._memory.close()

    async def _leave_elsewhere(self, state: LoopState) -> None:
        """Leave the engine of another loop, in that loop; it does so later if it is blocked.

        It may be blocked by waiting for this very call, as that of a test is which leaves its client.
        """
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def leave() -> None:
            with suppress(RuntimeError):  # this loop has been closed meanwhile
                loop.call_soon_threadsafe(begun.set)
            await self._leave(state)

        leaving = asyncio.run_coroutine_threadsafe(leave(), state.loop)
        try:
            async with asyncio.timeout(BLOCKED_AFTER):
                await begun.wait()
        except TimeoutError:
            logger.warning("an event loop that used the storage is blocked: it closes its connections later")
            return
        await asyncio.wrap_future(leaving)

    def _add(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        self._refuse_inherited()
        state = self._states[loop] = LoopState(self._callers or self._open(), loop)
        if self.dialect.remote and self.settings.operation_timeout is not None:
            state.watchdog = Watchdog(loop, self.settings.operation_timeout, self.dialect.cut)
        self._forget_closed_loops()
        if self._callers and not isinstance(self._callers.pool, NullPool) and self._is_stranded(loop):
            del self._states[loop]
            raise WrongEventLoop(
                "this storage's engine belongs to another event loop: give the storage a URL, "
                "or an engine with NullPool, to use it from several"
            )
        return state

    def _refuse_inherited(self) -> None:
        if not self.dialect.remote and self._inherited_path() in _INHERITED_FILES:
            raise inherited_sqlite()
        if self._forks.inherited and self._callers and not isinstance(self._callers.pool, NullPool):
            raise inherited_engine()

    def _leave_to_parent(self) -> list[Any]:
        """Forget what the parent of this process has open, and give it."""
        states = self.states()
        self._states = {}
        self._first_loop = None
        if states and not self.dialect.remote:
            _INHERITED_FILES.add(self._inherited_path())
        return states

    def _inherited_path(self) -> str:
        file = database_file(self.url)
        return str(file.absolute()) if file else str(self.url.database)

    def _is_stranded(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the caller's engine has connections that another loop opened."""
        if self.dialect.portable:
            return len(self._states) > 1
        self._first_loop = self._first_loop or loop
        return self._first_loop is not loop

    def _open(self) -> AsyncEngine:
        defaults: dict[str, Any] = {
            "pool_size": self.settings.pool_size,
            "max_overflow": 0,
            "pool_timeout": self.settings.pool_timeout,
            "poolclass": AsyncAdaptedQueuePool,
            "pool_reset_on_return": None,  # every transaction is ended, or its connection dropped
            "isolation_level": "AUTOCOMMIT",  # a transaction is begun by a statement
            "skip_autocommit_rollback": True,  # and ended by one: spares a round trip for each operation
            "hide_parameters": True,  # they are session data
        }
        url, given = options.for_engine(self.dialect, self.url, self.settings, defaults | dict(self._options))
        engine = create_async_engine(url, **given)
        self.dialect.opened(engine, self.settings)
        if self.dialect.remote:
            self._start_connect_watchdogs(engine)
        return engine

    def _validated_engine(self) -> AsyncEngine:
        """An engine that is made to see whether it can be; nothing connects."""
        try:
            return self._open()
        except SessionError:
            raise
        except (TypeError, ValueError, AttributeError, ArgumentError) as error:
            raise InvalidArgument(f"engine_options do not fit create_async_engine: {error}") from error

    def _is_direct(self, engine: AsyncEngine) -> bool:
        sync = engine.sync_engine
        translated = sync.get_execution_options().get("schema_translate_map")
        events: Any = sync.dispatch
        # On SQLite, SQLAlchemy's documentation has transactions begun by an event.
        begins = events.begin and not self.dialect.serial
        rewrites = events.before_execute or events.before_cursor_execute
        return not (translated or begins or events.engine_connect or rewrites)

    def _start_connect_watchdogs(self, engine: AsyncEngine) -> None:
        """Cut off a connection that falls silent after the driver has made it and before the pool has it."""

        @event.listens_for(engine.sync_engine, "do_connect")
        def begin(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
            made = dialect.connect(*arguments, **options)
            call_later = asyncio.get_running_loop().call_later
            record.info["watchdog"] = call_later(
                self.settings.connect_timeout, self.dialect.cut, made.driver_connection
            )
            return made

        @event.listens_for(engine.sync_engine, "connect")  # the last of its listeners
        def end(_connection: Any, record: Any) -> None:
            if (watchdog := record.info.pop("watchdog", None)) is not None:
                watchdog.cancel()

    async def _close_with_loop(self, state: LoopState) -> AsyncGenerator[None]:
        """Closes our connections when the event loop is shut down without the storage being closed.

        `asyncio.run` and its like close the async generators that are still open.
        """
        try:
            yield
        finally:
            if state.loop in self._states:
                await self._leave(state)

    async def _leave(self, state: LoopState) -> None:
        """Wait for all work in an event loop, also what it spawns, and close our connections there."""
        if state.timer is not None:
            state.timer.cancel()
        while True:
            # A task that is done may still await its callback, which takes it out of the set.
            if pending := [task for task in state.tasks if not task.done()]:
                await asyncio.wait(pending)
            elif state.checked_out:  # by a read in its caller's own task
                state.idle = asyncio.Event()
                await state.idle.wait()
            else:
                break
        self._states.pop(state.loop, None)
        if self.owned:
            await state.release_idle(every=True)
            await state.engine.dispose()
        if state.guard is not None:
            with suppress(RuntimeError):  # it is running: the event loop is being shut down
                await state.guard.aclose()

    def _in_own_task(self) -> bool:
        """Whether the running task is one that closing waits for."""
        state = self._states.get(asyncio.get_running_loop())
        return state is not None and asyncio.current_task() in state.tasks

    def _forget_closed_loops(self) -> None:
        for state in self.states():
            if state.loop.is_closed():
                del self._states[state.loop]
                if self.owned:
                    state.kept_idle.clear()
                    state.engine.sync_engine.dispose(close=False)
