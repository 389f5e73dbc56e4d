"""The watchdog, by the clock of a loop that does not run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from sqlsessions.sql.engine.watchdog import Watchdog


class Loop:
    """The clock and the timers of an event loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        self.timers.append((when, callback))
        return callback

    def advance(self, now: float) -> None:
        self.now = now
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, callback in due:
            callback()


def test_what_takes_too_long_is_cut_off_at_its_own_time() -> None:
    loop, cut = Loop(), list[Any]()
    watchdog = Watchdog(cast("asyncio.AbstractEventLoop", loop), 10.0, cut.append)
    watchdog.watch("first")
    loop.advance(3.0)
    watchdog.watch("back in time")
    watchdog.watch("second")
    watchdog.release("back in time")
    loop.advance(9.9)
    assert cut == []
    loop.advance(10.0)
    assert cut == ["first"]
    watchdog.release("first")
    loop.advance(13.0)
    assert cut == ["first", "second"]
    assert loop.timers == []


def test_however_many_there_are_there_is_one_timer() -> None:
    loop, cut = Loop(), list[Any]()
    watchdog = Watchdog(cast("asyncio.AbstractEventLoop", loop), 10.0, cut.append)
    for number in range(100):
        loop.advance(number / 10)
        watchdog.watch(number)
        watchdog.release(number)
        assert len(loop.timers) == 1
    loop.advance(10.0)
    assert (cut, loop.timers) == ([], [])
    watchdog.watch("later")
    loop.advance(20.0)
    assert cut == ["later"]
