"""Conditional writes that are repeated on what other requests wrote meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...errors import SessionConflict, SessionNotFound, StorageUnavailable
from ...info import SessionInfo, Snapshot

M = TypeVar("M")

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds


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
    for attempt in range(ATTEMPTS):
        try:
            if (snapshot := await load()) is None:
                raise SessionNotFound("the session ended meanwhile")
            payload, merged = merge(snapshot)
            return await write(payload, snapshot), payload, merged
        except SessionConflict:
            await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
    raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} writes: try again later")
