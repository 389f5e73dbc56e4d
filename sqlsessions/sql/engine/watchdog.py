"""The watchdog of an event loop: what becomes of connections to a server that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import Any


class Watchdog:
    """Cuts off connections on which something takes too long.

    All have the same time, so that the first to begin is the first to be late, and one timer does for them all: a timer
    for each would cost more than all else in a checkout.

    Args:
        loop: The event loop.
        timeout: Seconds.
        cut: Ends a connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, cut: Callable[[Any], None]) -> None:
        self._loop = loop
        self._timeout = timeout
        self._cut = cut
        self._deadlines: dict[Any, float] = {}  # the earliest first
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: Any) -> None:
        """Give a connection its time, from now on."""
        deadline = self._loop.time() + self._timeout
        self._deadlines[connection] = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._look)

    def release(self, connection: Any) -> None:
        """Let a connection be that came back, perhaps cut off."""
        self._deadlines.pop(connection, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for connection, deadline in list(self._deadlines.items()):
            if deadline > now:
                self._timer = self._loop.call_at(deadline, self._look)
                break
            del self._deadlines[connection]
            self._cut(connection)


class Stalled:
    """Cuts off a connection whose answers stop to come after the first one and before the last; a context manager.

    Args:
        answers: Those that have come.
        expected: How many there should be.
        seconds: How long the next one may take; at most twice as long.
        cut: Ends the connection.
    """

    __slots__ = ("_answers", "_cut", "_expected", "_seconds", "_timer")

    def __init__(self, answers: Sized, expected: int, seconds: float, cut: Callable[[], None]) -> None:
        self._answers = answers
        self._expected = expected
        self._seconds = seconds
        self._cut = cut
        self._look(-1)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look(self, before: int) -> None:
        number = len(self._answers)
        if number == before and 0 < number < self._expected:
            self._cut()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look, number)
