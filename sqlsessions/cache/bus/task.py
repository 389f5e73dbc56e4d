"""A bus that a task keeps up."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from typing import NoReturn

from ..._tasks import end
from ...errors import SessionError
from .base import Bus, BusStatistics

logger = logging.getLogger("sqlsessions")

BOUND = 1.0
"""Seconds for which a proof holds."""
CANCEL_AGAIN = 0.5  # seconds
FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0  # seconds


class TaskBus(Bus):
    """Runs a task in the event loop that uses it first, which proves the bus again and again.

    Once the last proof is older than a second, nothing is known until the next one. When the task has failed,
    notices may have been missed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._task: asyncio.Task[NoReturn] | None = None
        self._closed = False
        self._epoch = 0
        self._gaps = 0
        self._proven_until = 0.0
        self._lag: float | None = None
        self._connected = False
        self._obstacle: str | None = None

    def state(self) -> object | None:
        if time.monotonic() < self._proven_until:
            return self._epoch
        if not self._closed and (
            self._task is None or self._task.done() or self._task.get_loop().is_closed()
        ):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="sqlsessions bus")
        return None

    @property
    def statistics(self) -> BusStatistics:
        proven = time.monotonic() < self._proven_until
        return BusStatistics(proven, self._lag, self._gaps, self._notices, None if proven else self._obstacle)

    async def aclose(self) -> None:
        """End the task and its connection."""
        self._closed = True
        task = self._task
        if task is None or task.done() or task.get_loop().is_closed():
            return
        if task.get_loop() is asyncio.get_running_loop():
            await end(task, again=CANCEL_AGAIN)
        else:
            task.get_loop().call_soon_threadsafe(task.cancel)

    @abstractmethod
    async def _serve(self) -> None:
        """Connect, and `_prove` the bus from time to time until the connection is lost; close it."""

    def _prove(self, began: float) -> None:
        """Note that every notice has arrived of what was committed before a moment of the monotonic clock."""
        self._connected, self._obstacle = True, None
        self._lag = time.monotonic() - began
        self._proven_until = began + BOUND

    def _doubt(self) -> None:
        """Take the bus for down until the next proof."""
        self._proven_until = 0.0

    def _note_gap(self) -> None:
        """Note that notices may have been missed until now."""
        self._proven_until = 0.0
        self._epoch += 1
        self._gaps += 1
        self._deliver_missed()

    async def _run(self) -> NoReturn:
        backoff = FIRST_BACKOFF
        while True:
            self._connected = False
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 (the next connection may do)
                if self._connected:
                    backoff = FIRST_BACKOFF
                # Only our own messages are known to hold no data.
                self._obstacle = str(error) if isinstance(error, SessionError) else type(error).__name__
                logger.warning("the bus of caches is down, next try in %.2f s: %s", backoff, self._obstacle)
            finally:
                if self._connected:
                    self._note_gap()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)
