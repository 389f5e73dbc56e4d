"""Reading a session for a call that cannot have it awaited: the caller's event loop waits meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import WeakSet, ref

from ...errors import StorageUnavailable, UnsupportedOperation, WrongEventLoop
from .manager import SessionManager
from .portal import run
from .session import Session

TIMEOUT = 60.0
"""Seconds that a read may take: a storage that is not made for several event loops might wait for ever."""

logger = logging.getLogger("sqlsessions")
_warned: WeakSet[SessionManager] = WeakSet()


def read_blocking(manager: SessionManager, read: Callable[[], Coroutine[Any, Any, None]], hint: str) -> None:
    """Read a session in the background event loop, and wait for that.

    Args:
        manager: The manager of the session; the first such read of each logs a warning.
        read: Reads it.
        hint: How the application can avoid this.

    Raises:
        UnsupportedOperation: If the storage serves one event loop alone.
        StorageUnavailable: If the session cannot be read.
    """
    if manager not in _warned:
        _warned.add(manager)
        logger.warning(
            "a session is read where nothing can be awaited, and the event loop waits for it: %s", hint
        )
    _bind(manager.storage)
    try:
        run(read(), TIMEOUT)
    except WrongEventLoop as error:
        raise UnsupportedOperation(
            f"the session cannot be read here, since the storage's engine serves one event loop: {hint}"
        ) from error
    except TimeoutError as error:
        raise StorageUnavailable(f"a session was not read within {TIMEOUT:.0f} seconds: {hint}") from error


class LateReader:
    """Reads a session that an outer layer accesses after the integration is done with the request.

    Args:
        manager: The manager of the session.
        task: A weak reference to the task of the request, which alone may still read; None if any may, since
            the request failed and has no response yet.
        hint: How the application can avoid this.
    """

    __slots__ = ("_hint", "_manager", "_task")

    def __init__(self, manager: SessionManager, task: ref[asyncio.Task[Any]] | None, hint: str) -> None:
        self._manager = manager
        self._task = task
        self._hint = hint

    def __call__(self, session: Session) -> None:
        """Read it.

        Raises:
            RuntimeError: If the request is over.
        """
        current = _current_task()
        if self._task is not None and (current is None or current is not self._task()):
            raise RuntimeError(f"the session was not read before its request was over: {self._hint}")
        read_blocking(self._manager, partial(self._manager.load, session), self._hint)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # in a thread that has no event loop
        return None


def _bind(storage: Any) -> None:
    """Have a caller's own engine serve the running event loop, or else it would serve the background one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    while (delegate := getattr(storage, "delegate", None)) is not None:
        storage = delegate
    getattr(storage, "engine", None)
