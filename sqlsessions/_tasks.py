"""Work that is finished although its caller was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_GRACE = 10.0
"""Seconds that a cancelled caller waits for the end of what it began."""


async def finish(
    task: asyncio.Task[T], *, may_abandon: Callable[[], bool] = lambda: False, grace: float = CANCEL_GRACE
) -> T:
    """The result of a task, which runs to its end although the caller is cancelled.

    A cancelled caller waits for that end, so that nothing of the work takes effect after the call.

    Args:
        task: The work.
        may_abandon: Whether, by the time of a cancellation, nothing has taken effect yet: the task is then
            cancelled too.
        grace: Seconds that a cancelled caller waits at most.
    """
    try:
        # Not `asyncio.shield`: newer Pythons report the error of a task whose waiter was cancelled.
        await asyncio.wait({task})
    except asyncio.CancelledError:
        if may_abandon():
            task.cancel()
        await wait_although_cancelled(task, grace)
        raise
    return task.result()


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Take the error of a finished task whose callers have left, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()


async def end(task: asyncio.Task[Any], *, again: float = CANCEL_GRACE) -> None:
    """Cancel a task of this event loop, and wait until it has ended.

    A library in which the task waits may lose a cancellation that comes together with a timeout of its own, as
    redis-py does now and then: it is repeated.

    Args:
        task: May have ended already.
        again: Seconds until the next cancellation, which may cut short what the task does to end well.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=again)


async def wait_although_cancelled(future: asyncio.Future[Any], grace: float = CANCEL_GRACE) -> None:
    """Wait until a future is done, for a caller that was cancelled and may be again.

    anyio's cancel scopes cancel at every await of what is inside them, until that has ended.

    Args:
        future: What to wait for.
        grace: Seconds to wait at most.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    while not future.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({future}, timeout=left)
