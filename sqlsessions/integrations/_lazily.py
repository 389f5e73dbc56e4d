"""Awaiting from within plain calls: how ``request.session["user"]`` can read a database.

A coroutine is run inside a greenlet. A plain function that it calls can then switch out, have
something awaited in the coroutine's place, and be switched back in with the result; SQLAlchemy's
asyncio support works in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

R = TypeVar("R")


class _Wanted:
    """What a plain call wants awaited."""

    __slots__ = ("awaitable", "caller")

    def __init__(self, awaitable: Awaitable[Any], caller: greenlet) -> None:
        self.awaitable = awaitable
        self.caller = caller


class Awaiting:
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
        return await _Driven(coroutine, self._started)

    def _started(self, inner: greenlet) -> None:
        self._inner = inner


class _Driven(Awaitable[R]):
    def __init__(self, coroutine: Coroutine[Any, Any, R], started: Callable[[greenlet], None]) -> None:
        self._coroutine = coroutine
        self._started = started

    def __await__(self) -> Generator[Any, Any, R]:
        outer = getcurrent()
        inner = greenlet(self._steps, outer)
        inner.gr_context = outer.gr_context  # context variables that the coroutine sets are the task's
        self._started(inner)
        caller, yielded = inner, inner.switch(outer)
        while not inner.dead:
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
        result: R = yielded
        return result

    def _steps(self, outer: greenlet) -> R:
        step: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                yielded = step(value)
            except StopIteration as stop:
                result: R = stop.value
                return result
            try:
                value = outer.switch(yielded)
                step = self._coroutine.send
            except BaseException as error:  # noqa: BLE001 (the coroutine gets it)
                value, step = error, self._coroutine.throw
