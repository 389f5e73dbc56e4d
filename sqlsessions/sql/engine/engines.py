"""Engines, one for each event loop, and what else belongs to one."""

from __future__ import annotations

import asyncio
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

from ...errors import InvalidArgument, StorageUnavailable, WrongEventLoop
from ..dialects import DIALECTS, Dialect, Settings
from ..dialects.sqlite import SharedMemory, in_memory
from ..models import metadata
from .urls import async_url

T = TypeVar("T")

RESERVED_OPTIONS = frozenset(
    {
        "isolation_level",
        "pool_reset_on_return",
        "skip_autocommit_rollback",
        "hide_parameters",
        "creator",
        "async_creator",
    }
)
"""Options of `create_async_engine` that would take transactions out of our hands, or show session data."""

SIZED_POOL = frozenset({"pool_size", "max_overflow", "pool_timeout"})
"""Options that only a pool with a bound takes."""


@dataclass(eq=False)
class LoopState:
    """What belongs to one event loop.

    Attributes:
        engine: The engine that serves it.
        loop: The event loop.
        write_lock: Held by the writer, where the database takes one at a time.
        tasks: Work that closing waits for.
        guard: Closes our engine when the event loop is shut down.
        kept_idle: Pooled connections kept at hand for the next batch.
        waiting: How many callers wait for a connection.
        checked_out: How many connections are checked out.
        idle: Set while none is.
        queues: The queues of each `BatchExecutor`.
        pooler: Whether connections are only to be used within transactions; None before the first one.
        pool: The engine's.
        one_connection: Whether the pool is a single connection.
        max_kept_idle: How many connections may be kept at hand.
    """

    engine: AsyncEngine
    loop: asyncio.AbstractEventLoop
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    guard: AsyncGenerator[None] | None = None
    kept_idle: list[PoolProxiedConnection] = field(default_factory=list)
    waiting: int = 0
    checked_out: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    queues: dict[object, Any] = field(default_factory=dict)
    pooler: bool | None = None
    pool: Pool = field(init=False)
    one_connection: bool = field(init=False)
    max_kept_idle: int = field(init=False)

    def __post_init__(self) -> None:
        """Look at the pool."""
        self.pool = self.engine.sync_engine.pool
        self.one_connection = isinstance(self.pool, StaticPool)
        # Two connections stay in the pool for others.
        self.max_kept_idle = self.pool.size() - 2 if isinstance(self.pool, QueuePool) else 0

    def may_keep_idle(self) -> bool:
        """Whether a connection may be kept at hand: not while others wait for one."""
        return not self.waiting and len(self.kept_idle) < self.max_kept_idle

    async def release_idle(self, *, every: bool = False) -> None:
        """Give kept connections back to the pool: one if the pool has none idle, or every one."""
        pool = self.pool
        while self.kept_idle and (every or not (isinstance(pool, QueuePool) and pool.checkedin())):
            await greenlet_spawn(self.kept_idle.pop().close)
            if not every:
                break


class Engines:
    """The engines of a database, for any number of event loops.

    An engine that we open belongs to one event loop; another loop gets an engine of its own. The
    caller's engine serves the loop that uses it.

    Args:
        target: A URL, or the caller's engine.
        settings: How to open connections.
        options: More arguments of `create_async_engine`; its ``connect_args`` are added to ours.

    Attributes:
        owned: Whether the engines are ours: opened from a URL, and disposed of with the storage.
        url: Of the database.
        dialect: Its kind.
        direct: Whether a driver's own connection acts as SQLAlchemy's would: not where an engine translates
            schemas, or has events for what its connections begin with.
        closed: Whether `aclose` was called.

    Raises:
        InvalidArgument: If an option is unknown, or one that is ours to set.
    """

    def __init__(
        self, target: str | URL | AsyncEngine, settings: Settings, options: Mapping[str, Any]
    ) -> None:
        self._settings = settings
        self._options = options
        self._states: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._first_loop: asyncio.AbstractEventLoop | None = None
        self._callers = target if isinstance(target, AsyncEngine) else None
        self._memory: SharedMemory | None = None
        self.closed = False
        self.owned = self._callers is None
        self.url = async_url(target.url if isinstance(target, AsyncEngine) else target)
        self.dialect: Dialect = DIALECTS[self.url.get_backend_name()]
        if self.owned and in_memory(self.url):
            self._memory = SharedMemory()
            self._memory.create_tables(metadata)
            self.url = self._memory.url
        if self.owned:
            self._refuse_reserved_options()
        self.direct = self._is_direct(self._callers or self._validated_engine())

    def state(self) -> LoopState:
        """The state of the running event loop.

        Raises:
            WrongEventLoop: If the caller's engine has connections of another event loop.
        """
        loop = asyncio.get_running_loop()
        return self._states.get(loop) or self._add(loop)

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
            raise StorageUnavailable("the storage is closed")
        state = self.state()
        if state.guard is None:
            state.guard = self._close_with_loop(state)
            await anext(state.guard)
        return state

    def spawn(self, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Run work to its end whatever becomes of the caller; closing waits for it.

        Raises:
            StorageUnavailable: If the storage is closed and its connections are gone.
        """
        if self.closed and asyncio.get_running_loop() not in self._states:
            raise StorageUnavailable("the storage is closed")
        state = self.state()
        task = state.loop.create_task(work())
        state.tasks.add(task)
        task.add_done_callback(state.tasks.discard)
        task.add_done_callback(_retrieve_exception)
        return task

    async def aclose(self) -> None:
        """Wait for work under way and dispose of our engines."""
        self.closed = True
        for state in self.states():
            if state.loop is asyncio.get_running_loop():
                await self._leave(state)
            elif state.loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._leave(state), state.loop))
        self._states.clear()
        if self._memory is not None:
            self._memory.close()

    def _add(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        state = self._states[loop] = LoopState(self._callers or self._open(), loop)
        self._forget_closed_loops()
        if self._callers and not isinstance(self._callers.pool, NullPool) and self._is_stranded(loop):
            del self._states[loop]
            raise WrongEventLoop(
                "this storage's engine belongs to another event loop: give the storage a URL, "
                "or an engine with NullPool, to use it from several"
            )
        return state

    def _is_stranded(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the caller's engine has connections that another loop opened."""
        if self.dialect.portable:
            return len(self._states) > 1
        self._first_loop = self._first_loop or loop
        return self._first_loop is not loop

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
        own = self.dialect.options(self.url, self._settings)
        options |= own | dict(self._options)
        options["connect_args"] = own["connect_args"] | self._options.get("connect_args", {})
        if issubclass(options["poolclass"], (NullPool, StaticPool)):
            options = {name: value for name, value in options.items() if name not in SIZED_POOL}
        engine = create_async_engine(self.url, **options)
        self.dialect.opened(engine, self._settings)
        if self.dialect.remote:
            self._start_connect_watchdogs(engine)
        return engine

    def _refuse_reserved_options(self) -> None:
        executing = self._options.get("execution_options", {})
        for name in [*self._options, *executing]:
            if name in RESERVED_OPTIONS:
                raise InvalidArgument(
                    f"engine_options must not set {name!r}: a storage sets it, and begins and ends its own "
                    "transactions"
                )

    def _validated_engine(self) -> AsyncEngine:
        """An engine that is made to see whether it can be; nothing connects."""
        try:
            return self._open()
        except (TypeError, AttributeError, ArgumentError) as error:
            raise InvalidArgument(f"engine_options do not fit create_async_engine: {error}") from error

    def _is_direct(self, engine: AsyncEngine) -> bool:
        sync = engine.sync_engine
        translated = sync.get_execution_options().get("schema_translate_map")
        events: Any = sync.dispatch
        # On SQLite, SQLAlchemy's documentation has transactions begun by an event.
        begins = events.begin and not self.dialect.serial
        return not (translated or begins or events.engine_connect or events.before_cursor_execute)

    def _start_connect_watchdogs(self, engine: AsyncEngine) -> None:
        """Cut off a connection that falls silent after the driver has made it and before the pool has it."""

        @event.listens_for(engine.sync_engine, "do_connect")
        def begin(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
            made = dialect.connect(*arguments, **options)
            call_later = asyncio.get_running_loop().call_later
            record.info["watchdog"] = call_later(
                self._settings.connect_timeout, self.dialect.cut, made.driver_connection
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
        while True:
            # A task that is done may still await its callback, which takes it out of the set.
            if pending := [task for task in state.tasks if not task.done()]:
                await asyncio.wait(pending)
            elif state.checked_out:  # by a read in its caller's own task
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


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Take the error of a task whose caller has left, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()
