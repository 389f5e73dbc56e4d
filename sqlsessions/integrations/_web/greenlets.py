"""Awaiting from within plain calls: how ``request.session["user"]`` can read a database.

A coroutine is run inside a greenlet. A plain function that it calls can then switch out, have
something awaited in the coroutine's place, and be switched back in with the result; SQLAlchemy's
asyncio support works in the same way.
"""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar
from weakref import ref

from greenlet import GreenletExit, getcurrent, greenlet

from .blocking import read_blocking
from .manager import SessionManager

R = TypeVar("R")

PATIENCE = 1.0
"""Seconds that a worker thread waits for the event loop, which may itself be waiting for the thread."""


class GreenletBridge:
    """Runs an async function so that plain calls within it, in the same task, can await.

    Args:
        hint: How the application can read the session beforehand.

    Attributes:
        task: A weak reference to the task in which it runs, or ran; None before.
    """

    task: ref[asyncio.Task[Any]] | None = None
    _inner: greenlet | None = None
    _caller: greenlet | None = None  # a plain call that waits for `_awaited`
    _awaited: Awaitable[Any] | None = None
    _result: Any = None
    _error: BaseException | None = None

    def __init__(self, hint: str) -> None:
        self._hint = hint
        self._loop = asyncio.get_running_loop()

    @types.coroutine
    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Generator[Any, Any, Any]:
        """Call a function, and await what it returns; gives the result of that."""
        task = asyncio.current_task(self._loop)
        outer = getcurrent()
        inner = _idle.greenlets.pop() if _idle.greenlets else _new_greenlet()
        inner.parent = outer
        inner.gr_context = outer.gr_context  # context variables that the function sets are the task's
        self.task, self._inner = None if task is None else ref(task), inner
        del task  # as an error of it may lead here
        caller, yielded = inner, inner.switch(self, function, args)
        while yielded is not _DONE:
            try:
                if yielded is self:
                    assert self._caller is not None
                    assert self._awaited is not None
                    caller, awaited, self._caller, self._awaited = self._caller, self._awaited, None, None
                    answer = yield from awaited.__await__()
                else:
                    caller = inner
                    answer = yield yielded
            except BaseException as error:  # noqa: BLE001 (raised in the caller)
                yielded = caller.throw(error)
            else:
                yielded = caller.switch(answer)
        self._inner = None
        inner.gr_context = None
        _idle.greenlets.append(inner)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None
                del self  # the error's traceback leads here
        result, self._result = self._result, None
        return result

    def wait(self, manager: SessionManager, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Read a session, for a plain call.

        From within the function that is run, in its own task, that is awaited by the task. A worker thread
        waits for the event loop. From elsewhere, such as a task that the application started, the session is
        read in the background event loop, and a warning is logged.

        Args:
            manager: The manager of the session.
            read: Reads it.

        Raises:
            UnsupportedOperation: If the storage serves one event loop alone.
            StorageUnavailable: If the session cannot be read.
        """
        if self._reachable():
            self._await_outside(read())
        elif not (_in_worker_thread() and self._await_from_thread(read)):
            read_blocking(manager, read, self._hint)

    async def outside(self, function: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The result of an async function, awaited by the task itself rather than within the greenlet.

        An await within the greenlet switches out and in with each suspension.
        """
        return self._await_outside(function()) if self._reachable() else await function()

    def _reachable(self) -> bool:
        """Whether the caller runs within the function, in its own task."""
        try:
            if self._inner is None or self.task is None or asyncio.current_task() is not self.task():
                return False
        except RuntimeError:  # in a thread that has no event loop
            return False
        current: greenlet | None = getcurrent()
        while current is not None and current is not self._inner:
            current = current.parent
        return current is not None

    def _await_from_thread(self, read: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Have the event loop await a session; False if it does not, as it is closed or waits itself."""
        begun = threading.Event()

        async def reading() -> None:
            begun.set()
            await read()

        coroutine = reading()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # it is closed
            coroutine.close()
            return False
        if not begun.wait(PATIENCE) and future.cancel():
            return False
        future.result()
        return True

    def _await_outside(self, awaitable: Awaitable[R]) -> R:
        assert self._inner is not None
        outer = self._inner.parent
        assert outer is not None
        self._caller, self._awaited = getcurrent(), awaitable
        result: R = outer.switch(self)
        return result

    def perform(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        """Run an async function inside the current greenlet, which switches out where it suspends."""
        outer = getcurrent().parent
        assert outer is not None
        try:
            awaitable = function(*args)
        except BaseException as error:  # noqa: BLE001 (raised in the task)
            self._error = error
            return
        coroutine: Any = awaitable if isinstance(awaitable, types.CoroutineType) else _awaiting(awaitable)
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                yielded = step(value)
            except StopIteration as stop:
                self._result = stop.value
                return
            except BaseException as error:  # noqa: BLE001 (raised in the task)
                self._error = error
                return
            try:
                value = outer.switch(yielded)
                step = coroutine.send
            except GreenletExit:  # it is abandoned
                coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 (raised in the coroutine)
                value, step = error, coroutine.throw


def _in_worker_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


_DONE: Any = object()
"""What a greenlet switches out with when it is idle."""


class _Idle(threading.local):
    """Greenlets of this thread for the next coroutines: to make one takes longer than to run most."""

    def __init__(self) -> None:
        self.greenlets: list[greenlet] = []


_idle = _Idle()


def _new_greenlet() -> greenlet:
    """A greenlet that is idle; it would keep what it is started with."""
    made = greenlet(_work)
    made.switch()
    return made


def _work() -> None:
    """Run one function after the other, as an idle greenlet is given them."""
    while True:
        bridge, function, args = getcurrent().parent.switch(_DONE)
        bridge.perform(function, args)
        del bridge, function, args  # which it would keep while it is idle


async def _awaiting(awaitable: Awaitable[R]) -> R:
    return await awaitable
