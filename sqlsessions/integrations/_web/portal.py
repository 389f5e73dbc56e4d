"""An event loop in the background, for code that cannot await: one for all threads of a process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CLOSING_TIMEOUT = 10.0  # seconds that the end of the process waits for connections to close


class _Portal:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        # A daemon, since the interpreter waits for other threads before it calls what closes this one.
        self.thread = threading.Thread(target=self._serve, name="sqlsessions", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSING_TIMEOUT)

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
            # This is when a storage closes the connections that it has on an event loop.
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


class _Process:
    """What belongs to one process: its portal, once there is need of one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: _Portal | None = None
        # A child that is forked has the parent's portal without its thread. It keeps that as it is:
        # to let go of the connections would be to close them under the parent's hands.
        self._inherited: list[_Portal] = []

    def portal(self) -> _Portal:
        with self._lock:
            if self._portal is None:
                self._portal = _Portal()
            return self._portal

    def forked(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        if self._portal is not None:
            self._inherited.append(self._portal)
            self._portal = None

    def close(self) -> None:
        with self._lock:
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()


_process = _Process()
atexit.register(_process.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forked)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the background event loop and wait for its end.

    The loop starts with the first call, and anew in a child process that is forked. What threads do at
    the same time shares its connections. It ends with the process.

    Args:
        coroutine: What to run; it sees the caller's context variables.

    Returns:
        What the coroutine returned.

    Raises:
        RuntimeError: If called from that loop itself, which would wait for itself for ever.
    """
    portal = _process.portal()
    if threading.current_thread() is portal.thread:
        coroutine.close()
        raise RuntimeError("this is the background event loop: await the coroutine instead")
    future = asyncio.run_coroutine_threadsafe(coroutine, portal.loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # where the wait was interrupted, such as by Ctrl+C
        raise
