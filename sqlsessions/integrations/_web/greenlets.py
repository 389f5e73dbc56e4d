"""GreenletBridge from within plain calls: how ``request.session["user"]`` can read a database.

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

R = TypeVar("R")


class _Wanted:
    """What a plain call wants awaited."""

    __slots__ = ("awaitable", "caller")

    def __init__(self, awaitable: Awaitable[Any], caller: greenlet) -> None:
        self.awaitable = awaitable
        self.caller = caller


class GreenletBridge:
    """Runs a coroutine so that plain calls within it, in the same task, can have things awaited."""

    def __init__(self) -> None:
        self._inner: greenlet | None = None
        self._task: asyncio.Task[Any] | None = None

    def possible(self) -> bool:
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

    def result(self, awaitable: Awaitable[R]) -> R:
        """The result of an awaitable, from a plain call for which that is `possible`."""
        assert self._inner is not None
        outer = self._inner.parent
        assert outer is not None
        found: R = outer.switch(_Wanted(awaitable, getcurrent()))
        return found

    async def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end."""
        self._task = asyncio.current_task()
        try:
            return await _Driven(self, coroutine)
        finally:
            self._task = self._inner = None

    def enter(self, inner: greenlet) -> None:
        """Say in which greenlet the coroutine runs."""
        self._inner = inner


class _Driven(Awaitable[R]):
    def __init__(self, awaiting: GreenletBridge, coroutine: Coroutine[Any, Any, R]) -> None:
        self._bridge = awaiting
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, R]:
        outer = getcurrent()
        inner = _idle.greenlets.pop() if _idle.greenlets else greenlet(_work)
        inner.parent = outer
        inner.gr_context = outer.gr_context  # context variables that the coroutine sets are the task's
        self._bridge.enter(inner)
        caller, yielded = inner, inner.switch(self._coroutine)
        while not isinstance(yielded, _Ended):
            try:
                if isinstance(yielded, _Wanted):
                    caller = yielded.caller
                    answer = yield from yielded.awaitable.__await__()
                else:
                    caller = inner
                    answer = yield yielded
            except BaseException as error:  # noqa: BLE001 (whoever awaits it gets it)
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


class _Ended:
    """How a coroutine ended."""

    __slots__ = ("error", "result")

    def __init__(self, result: Any, error: BaseException | None = None) -> None:
        self.result = result
        self.error = error


class _Idle(threading.local):
    """Greenlets of this thread for the next coroutines: to make one takes longer than to run most."""

    def __init__(self) -> None:
        self.greenlets: list[greenlet] = []


_idle = _Idle()


def _work(coroutine: Coroutine[Any, Any, Any]) -> None:
    while True:
        coroutine = getcurrent().parent.switch(_run(coroutine))


def _run(coroutine: Coroutine[Any, Any, Any]) -> _Ended:
    outer = getcurrent().parent
    assert outer is not None
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            yielded = step(value)
        except StopIteration as stop:
            return _Ended(stop.value)
        except BaseException as error:  # noqa: BLE001 (the task gets it)
            return _Ended(None, error)
        try:
            value = outer.switch(yielded)
            step = coroutine.send
        except GreenletExit:  # nobody will ever go on with it
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001 (the coroutine gets it)
            value, step = error, coroutine.throw
