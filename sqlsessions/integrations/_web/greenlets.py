"""Awaiting from within plain calls: how ``request.session["user"]`` can read a database.

A coroutine is run inside a greenlet. A plain function that it calls can then switch out, have
something awaited in the coroutine's place, and be switched back in with the result; SQLAlchemy's
asyncio support works in the same way.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from .blocking import read_blocking
from .manager import SessionManager

R = TypeVar("R")

PATIENCE = 1.0
"""Seconds that a worker thread waits for the event loop, which may itself be waiting for the thread."""


class GreenletBridge:
    """Runs a coroutine so that plain calls within it, in the same task, can await.

    Args:
        hint: How the application can read the session beforehand.
    """

    def __init__(self, hint: str) -> None:
        self._hint = hint
        self._loop = asyncio.get_running_loop()
        self._inner: greenlet | None = None
        self._task: asyncio.Task[Any] | None = None

    async def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end."""
        self._task = asyncio.current_task()
        try:
            return await _Driven(self, coroutine)
        finally:
            self._task = self._inner = None

    def wait(self, manager: SessionManager, read: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Read a session, for a plain call.

        From within the coroutine that is run, in its own task, that is awaited by the task. A worker thread
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

    def enter(self, inner: greenlet) -> None:
        """Set the greenlet that the coroutine runs in."""
        self._inner = inner

    def _reachable(self) -> bool:
        """Whether the caller runs within the coroutine, in its own task."""
        try:
            if self._inner is None or asyncio.current_task() is not self._task:
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
        result: R = outer.switch(_AwaitRequest(awaitable, getcurrent()))
        return result


def _in_worker_thread() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class _AwaitRequest:
    """An awaitable, and the greenlet of the plain call that asks for its result."""

    __slots__ = ("awaitable", "caller")

    def __init__(self, awaitable: Awaitable[Any], caller: greenlet) -> None:
        self.awaitable = awaitable
        self.caller = caller


class _Outcome:
    """The result of a coroutine that ended, or its error."""

    __slots__ = ("error", "result")

    def __init__(self, result: Any, error: BaseException | None = None) -> None:
        self.result = result
        self.error = error


class _Driven(Awaitable[R]):
    """A coroutine that runs in a greenlet, awaited by the task."""

    def __init__(self, bridge: GreenletBridge, coroutine: Coroutine[Any, Any, R]) -> None:
        self._bridge = bridge
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, R]:
        outer = getcurrent()
        inner = _idle.greenlets.pop() if _idle.greenlets else greenlet(_work)
        inner.parent = outer
        inner.gr_context = outer.gr_context  # context variables that the coroutine sets are the task's
        self._bridge.enter(inner)
        caller, yielded = inner, inner.switch(self._coroutine)
        while not isinstance(yielded, _Outcome):
            try:
                if isinstance(yielded, _AwaitRequest):
                    caller = yielded.caller
                    answer = yield from yielded.awaitable.__await__()
                else:
                    caller = inner
                    answer = yield yielded
            except BaseException as error:  # noqa: BLE001 (raised in the caller)
                yielded = caller.throw(error)
            else:
                yielded = caller.switch(answer)
        inner.gr_context = None
        _idle.greenlets.append(inner)
        if yielded.error is not None:
            try:
                raise yielded.error
            finally:
                del yielded, self  # the error's traceback leads here
        result: R = yielded.result
        return result


class _Idle(threading.local):
    """Greenlets of this thread for the next coroutines: to make one takes longer than to run most."""

    def __init__(self) -> None:
        self.greenlets: list[greenlet] = []


_idle = _Idle()


def _work(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run one coroutine after the other, as an idle greenlet is given them."""
    while True:
        coroutine = getcurrent().parent.switch(_run(coroutine))


def _run(coroutine: Coroutine[Any, Any, Any]) -> _Outcome:
    """Run a coroutine inside the current greenlet, which switches out where it suspends."""
    outer = getcurrent().parent
    assert outer is not None
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            yielded = step(value)
        except StopIteration as stop:
            return _Outcome(stop.value)
        except BaseException as error:  # noqa: BLE001 (raised in the task)
            return _Outcome(None, error)
        try:
            value = outer.switch(yielded)
            step = coroutine.send
        except GreenletExit:  # it is abandoned
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 (raised in the coroutine)
            value, step = error, coroutine.throw
