"""Queues of requests that want the same session: one at a time in this process, in the order in which they came."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

from ..._validation import required_duration
from ...errors import StorageUnavailable
from ...records import digest
from ...storage import Duration
from .session import Session

REQUEST_WAIT = 10.0
"""Seconds that a request waits for the others of its session, unless set."""


class SessionQueues:
    """A queue for each session that is in use, for all event loops of a process.

    Whoever enters must leave, from any thread. Nothing is kept for a session that nobody uses.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Future[None]]] = {}

    async def enter(self, key: str, within: float) -> bool:
        """Wait until the others of the session have left; whether there were any.

        Args:
            key: Its `SessionInfo.key`.
            within: Seconds to wait at most.

        Raises:
            StorageUnavailable: If that is over.
        """
        with self._lock:
            if (waiting := self._waiting.get(key)) is None:
                self._waiting[key] = deque()
                return False
            place: Future[None] = Future()
            waiting.append(place)
        try:
            async with asyncio.timeout(within):
                await asyncio.wrap_future(place)
        except BaseException as error:
            if not place.cancel():  # it was given just now
                self.leave(key)
            if isinstance(error, TimeoutError):
                raise StorageUnavailable(
                    f"other requests use the session for longer than {within:g} seconds: try again later"
                ) from None
            raise
        return True

    def leave(self, key: str) -> None:
        """Let the next one in."""
        with self._lock:
            waiting = self._waiting[key]
            while waiting:
                place = waiting.popleft()
                if place.set_running_or_notify_cancel():  # else it waits no more
                    break
            else:
                del self._waiting[key]
                return
        place.set_result(None)

    @asynccontextmanager
    async def turn(self, key: str, within: float) -> AsyncIterator[bool]:
        """`enter` and `leave`, around a block."""
        waited = await self.enter(key, within)
        try:
            yield waited
        finally:
            self.leave(key)


class RequestQueue:
    """Lets the requests of a session in this process use it one after the other.

    Args:
        wait: Seconds that a request waits at most.
    """

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._queues = SessionQueues()
        self._entrances = SessionQueues()  # where tasks of one request wait while it enters

    async def enter(self, session: Session) -> None:
        """Wait, before a session is read, until the other requests have left.

        Raises:
            StorageUnavailable: If they take too long.
        """
        state = session.state
        async with self._entrances.turn(str(id(session)), self._wait):
            if state.queued is None and not session.loaded and state.from_cookie is not None:
                key = digest(state.from_cookie).hex()
                await self._queues.enter(key, self._wait)
                state.queued = key

    def leave(self, session: Session) -> None:
        """Let the next request in, once the session is written; may be called again."""
        if (key := session.state.queued) is not None:
            session.state.queued = None
            self._queues.leave(key)


def request_queue(serialize: bool | Duration) -> RequestQueue | None:
    """The queue of the setting ``serialize``; None if requests do not wait for each other.

    Raises:
        InvalidArgument: If it is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is neither a bool nor a duration.
    """
    if isinstance(serialize, bool):
        return RequestQueue(REQUEST_WAIT) if serialize else None
    return RequestQueue(required_duration("serialize", serialize) / 1_000_000)
