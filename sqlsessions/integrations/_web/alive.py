"""`Alive`: a block that ends when the session of its connection does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ..._validation import required_duration
from ...errors import InvalidArgument, SessionNotFound
from ...storage import Duration, ManagedSessionStorage
from .session import Session
from .watching import PERIOD, Watch, Watcher, watcher_of

POLICY_VIOLATION = 1008
"""The code with which a WebSocket is closed, unless set (RFC 6455, section 7.4.1)."""

LONGEST_PERIOD = 30
"""Seconds: a storage knows for a minute where a session went whose id was changed."""

REASON = "session ended"

Close = Callable[[int, str], Awaitable[Any]]


class Alive:
    """A block of a WebSocket or a long response, left as soon as the session has ended.

    The task is cancelled, as by `asyncio.timeout`, and the cancellation ends with the block. A WebSocket is then
    closed. A response that has begun ends where the block does. Before that, `SessionNotFound` is raised.

    Args:
        enter: Reads the session.
        storage: The storage of the session.
        close: Closes the WebSocket with a code and a reason; None for a response.
        has_begun: Whether the response has begun.
        every: Seconds after which the storage is asked again; 30 at most.
        code: The code.

    Attributes:
        ended: Whether the session has ended.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        enter: Callable[[], Awaitable[Session]],
        storage: ManagedSessionStorage,
        close: Close | None,
        has_begun: Callable[[], bool],
        *,
        every: Duration = PERIOD,
        code: int = POLICY_VIOLATION,
    ) -> None:
        self.ended = False
        self._enter = enter
        self._storage = storage
        self._close = close
        self._has_begun = has_begun
        self._every = required_duration("every", every) / 1_000_000
        if self._every > LONGEST_PERIOD:
            raise InvalidArgument(
                f"every must be at most {LONGEST_PERIOD} seconds: new ids are followed for a minute"
            )
        self._code = _checked(code)
        self._watched: tuple[Watcher, Watch] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Self:
        session = await self._enter()
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if session.info is not None:
            watch = Watch(session, self._every, self._end)
            self._watched = watcher_of(self._storage), watch
            self._watched[0].add(watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._watched is not None:
            watcher, watch = self._watched
            watcher.discard(watch)
        # A generator that was abandoned is closed by another task.
        if not self.ended or self._task is None or asyncio.current_task() is not self._task:
            return False
        cancelled_by_others = self._task.uncancel() > self._cancelling
        if kind is not None and (cancelled_by_others or not issubclass(kind, asyncio.CancelledError)):
            return False
        if self._close is not None:
            with suppress(Exception):  # the client is gone, or the block has closed it
                await self._close(self._code, REASON)
        elif kind is not None and not self._has_begun():
            raise SessionNotFound("the session ended before its request was answered") from None
        return True

    def _end(self) -> None:
        """Leave the block; called by the watcher."""
        self.ended = True
        if self._task is not None:
            self._task.cancel()


def _checked(code: int) -> int:
    if not isinstance(code, int) or not 1000 <= code <= 4999:  # noqa: PLR2004 (RFC 6455, section 7.4.2)
        raise InvalidArgument(f"code must be a WebSocket's, from 1000 to 4999, not {code!r}")
    return code
