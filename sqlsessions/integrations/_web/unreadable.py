"""Sessions whose data cannot be read: they count as absent, never as sessions without their data."""

from __future__ import annotations

import logging

from ...errors import SessionCorrupt
from ...events import events_of
from ...info import Snapshot
from ...storage import ManagedSessionStorage, SessionStorage

logger = logging.getLogger("sqlsessions")


async def load_intact(storage: ManagedSessionStorage, id: str) -> Snapshot | None:
    """A session as it is stored; None if it is damaged, as if there were none."""
    try:
        return await storage.load(id)
    except SessionCorrupt:
        log_unreadable(storage, storage.digest(id))
        return None


def log_unreadable(storage: SessionStorage | None, digest: bytes) -> None:
    """Log that a session has data that cannot be read, so that it counts as absent."""
    logger.warning("the data of a session cannot be read, so that it counts as absent")
    if (events := events_of(storage)) is not None:
        events.unreadable(digest)
