"""A bus over a connection on which notices arrive."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Protocol

from .task import TaskBus

INTERVAL = 0.25  # seconds between two heartbeats
DEAD_AFTER = 5.0  # seconds without an answer, until the connection is given up


class Line(Protocol):
    """A connection on which notices arrive."""

    async def send(self, heartbeat: str) -> object:
        """Send a heartbeat behind the notices that were sent before."""

    async def wait(self, seconds: float) -> object:
        """Take what arrives for some seconds, or until something did."""


class ListeningBus(TaskBus):
    """Listens on a connection of its own.

    A heartbeat proves the bus: it is sent like a notice, and comes back after all that were sent before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heartbeat = ""
        self._heard = False

    async def _beat(self, line: Line) -> None:
        """Send a heartbeat and wait until it is back, then a little longer.

        Raises:
            TimeoutError: If it does not come back.
        """
        self._heartbeat, self._heard, began = secrets.token_hex(8), False, time.monotonic()
        async with asyncio.timeout(DEAD_AFTER):
            await line.send(self._heartbeat)
            while not self._heard:
                await line.wait(DEAD_AFTER)
        self._prove(began)
        end = time.monotonic() + INTERVAL
        while (left := end - time.monotonic()) > 0:
            await line.wait(left)

    def _hear(self, heartbeat: str) -> None:
        """Take a heartbeat that came back."""
        if heartbeat == self._heartbeat:
            self._heard = True
