"""Cancels a call at any step that it, or a task which it began, makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class Counted(Coroutine[Any, Any, Any]):
    """A coroutine that says when it is resumed."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], resumed: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._resumed = resumed

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._resumed()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._resumed()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()


@asynccontextmanager
async def troubles() -> AsyncIterator[list[str]]:
    """What the event loop is told of meanwhile: errors that nobody awaits, coroutines closed badly."""
    seen: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: seen.append(repr(context)))
    try:
        yield seen
    finally:
        loop.set_exception_handler(before)


async def cancelled_at(step: int, call: Callable[[], Awaitable[Any]]) -> bool:
    """Make a call and cancel it as it, or a task that it began, makes a step for the n-th time.

    Returns:
        Whether there was such a step; if not, the call was left to finish.
    """
    loop = asyncio.get_running_loop()
    steps = 0
    target: asyncio.Task[Any] | None = None

    def resumed() -> None:
        nonlocal steps
        steps += 1
        if steps == step and target is not None:
            target.cancel()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(Counted(coroutine, resumed), loop=loop, **options)

    async def made() -> Any:
        return await call()

    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        target = loop.create_task(made())
        async with asyncio.timeout(30):
            await asyncio.wait([target])
    finally:
        loop.set_task_factory(before)
    if not target.cancelled():
        target.result()
    return steps >= step
