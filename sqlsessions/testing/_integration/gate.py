"""`Gate`: where requests wait for each other, or for the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from concurrent.futures import Future
from typing import Any

from .._base import PATIENCE


class Gate:
    """A point at which requests stop until the test lets them go on.

    Handlers that await call `wait`, handlers in threads call `block`; the other methods are the test's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.expect(0)

    async def wait(self) -> None:
        """Stop here, in a coroutine.

        Raises:
            TimeoutError: If the test does not open the gate.
        """
        opened = self._arrive()
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(asyncio.wrap_future(opened))  # which belongs to other requests too

    def block(self) -> None:
        """Stop here, in a thread.

        Raises:
            TimeoutError: If the test does not open the gate.
        """
        self._arrive().result(PATIENCE)

    def expect(self, requests: int) -> None:
        """Close the gate, for a number of requests."""
        self._missing = requests
        self._all_here: Future[None] = Future()
        self._opened: Future[None] = Future()

    async def reached(self, requests: Collection[asyncio.Task[Any]]) -> None:
        """Wait until all expected requests have arrived.

        Args:
            requests: The requests, none of which may end before.
        """
        here = asyncio.wrap_future(self._all_here)
        async with asyncio.timeout(PATIENCE):
            done, _ = await asyncio.wait([here, *requests], return_when=asyncio.FIRST_COMPLETED)
        for request in requests:
            if request in done:
                raise AssertionError(f"a held request did not wait at the gate: {request.result()}")

    def open(self) -> None:
        """Let all requests go on, and those that arrive later."""
        if not self._opened.done():
            self._opened.set_result(None)

    def _arrive(self) -> Future[None]:
        with self._lock:
            self._missing -= 1
            if self._missing == 0:
                self._all_here.set_result(None)
            return self._opened
