"""An event loop in the background, for code that cannot await: one per process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

CLOSING_TIMEOUT = 10.0  # seconds that the end of the process waits for connections to close


class _Portal:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        # A daemon, since the interpreter joins other threads before it calls `atexit` functions.
        self.thread = threading.Thread(target=self._serve, name="sqlsessions", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSING_TIMEOUT)

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
            # A storage closes its connections on an event loop with the loop's async generators.
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()


class _Process:
    """The portal of one process, started when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._portal: _Portal | None = None
        # A forked child has the parent's portal without its thread. It keeps a reference: garbage
        # collection would close connections that the parent still uses.
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


def spawn(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine in the background event loop, without waiting for it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _process.portal().loop)


def run(coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run a coroutine in the background event loop and wait for its end.

    The loop starts with the first call, and again in a forked child process. All threads share it and
    the connections on it. It ends with the process.

    Args:
        coroutine: The coroutine; it has the caller's context variables.
        timeout: Seconds to wait at most, after which it is cancelled; None is no limit.

    Returns:
        Its result.

    Raises:
        TimeoutError: If it takes too long.
        RuntimeError: If called from that loop itself, which would deadlock.
    """
    portal = _process.portal()
    if threading.current_thread() is portal.thread:
        coroutine.close()
        raise RuntimeError("this is the background event loop: await the coroutine instead")
    future = asyncio.run_coroutine_threadsafe(coroutine, portal.loop)
    try:
        return future.result(timeout)
    except BaseException:
        future.cancel()  # if the wait was interrupted, such as by Ctrl+C
        raise
