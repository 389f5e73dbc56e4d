"""Which of several cookies of one name is the session's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from ...errors import SessionCorrupt
from ...info import Snapshot
from ...storage import ManagedSessionStorage

logger = logging.getLogger("sqlsessions")

MOST = 5
"""How many ids of one request are looked up."""


def candidate_ids(values: Iterable[str | None], parse: Callable[[str | None], str | None]) -> tuple[str, ...]:
    """The ids among the values of a request's session cookies: the last `MOST`, without repetitions.

    Browsers send the cookies of shorter paths last (RFC 6265bis, section 5.8.3), so these are kept of many.

    Args:
        values: Values of all cookies that have the name of the session cookie.
        parse: Gives a value back if it could be an id.
    """
    ids = dict.fromkeys(id for value in values if (id := parse(value)) is not None)
    return tuple(ids)[-MOST:]


async def load_live(storage: ManagedSessionStorage, ids: Sequence[str]) -> tuple[str, Snapshot] | None:
    """The live session among some ids, with its id; None if there is none, and the newest of several.

    All are looked up at the same time, which storages that batch do in one statement. A session that is
    damaged counts as absent.

    Raises:
        StorageUnavailable: If they cannot be read.
    """
    if len(ids) == 1:
        snapshots = [await _load(storage, ids[0])]
    else:
        snapshots = await asyncio.gather(*(_load(storage, id) for id in ids))
    live = [(id, found) for id, found in zip(ids, snapshots, strict=True) if found is not None]
    return max(live, key=lambda each: each[1].info.created_at, default=None)


async def _load(storage: ManagedSessionStorage, id: str) -> Snapshot | None:
    try:
        return await storage.load(id)
    except SessionCorrupt:
        logger.warning("a session is damaged in its storage and is taken for absent")
        return None
