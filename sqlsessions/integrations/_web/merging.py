"""Conditional writes that are repeated on what other requests wrote meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...errors import SessionConflict, SessionNotFound, StorageUnavailable
from ...info import SessionInfo, Snapshot

M = TypeVar("M")

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds
LONGEST_WAIT = 10.0  # seconds


class Attempts:
    """Counts the attempts of a conditional write, which may begin within `LONGEST_WAIT`."""

    def __init__(self) -> None:
        self._failed = 0
        self._deadline = time.monotonic() + LONGEST_WAIT

    async def failed(self) -> None:
        """Pause after a conflict, for longer each time and not as long as other requests do.

        Raises:
            StorageUnavailable: If there is to be no other attempt.
        """
        self._failed += 1
        if self._failed == ATTEMPTS or time.monotonic() > self._deadline:
            raise StorageUnavailable(
                f"the session was changed during each of {self._failed} writes: try again later"
            )
        await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.0005 * 2**self._failed))  # noqa: S311


async def write_merged(
    load: Callable[[], Awaitable[Snapshot | None]],
    merge: Callable[[Snapshot], tuple[bytes, M]],
    write: Callable[[bytes, Snapshot], Awaitable[SessionInfo]],
) -> tuple[SessionInfo, bytes, M]:
    """Load a session, merge changes into it and write it, until no other request writes in between.

    Args:
        load: Gives the session as it is stored; None if it is gone.
        merge: Gives the bytes to store, and what they encode.
        write: Writes them over the snapshot that was loaded, and over no later version.

    Returns:
        The session as written, and what ``merge`` gave.

    Raises:
        SessionNotFound: If the session is gone.
        StorageUnavailable: If others wrote it during every attempt.
    """
    attempts = Attempts()
    while True:
        try:
            if (snapshot := await load()) is None:
                raise SessionNotFound("the session ended meanwhile")
            payload, merged = merge(snapshot)
            return await write(payload, snapshot), payload, merged
        except SessionConflict:
            await attempts.failed()
