"""Which of several cookies of one name is the session's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from ...errors import SessionCorrupt
from ...info import Snapshot
from ...storage import ManagedSessionStorage
from .unreadable import log_unreadable

D = TypeVar("D")
Found = tuple[str, Snapshot, D]
"""An id, its session as it is stored, and the data of that."""

MOST = 5
"""How many ids of one request are looked up."""


def candidate_ids(values: Iterable[str | None], parse: Callable[[str | None], str | None]) -> tuple[str, ...]:
    """The ids among the values of a request's session cookies: the last `MOST`, without repetitions.

    Browsers send the cookies of shorter paths last (RFC 6265bis, section 5.8.3), so these are kept of many.

    Args:
        values: Values of all cookies that have the name of the session cookie.
        parse: Gives a value back if it could be an id.
    """
    ids = [id for value in values if (id := parse(value)) is not None]
    return tuple([*dict.fromkeys(ids)][-MOST:] if len(ids) > 1 else ids)


def load_live(
    storage: ManagedSessionStorage, ids: Sequence[str], read: Callable[[bytes], D | None]
) -> Awaitable[Found[D] | None]:
    """The live session among some ids, with its id; None if there is none, and the newest of several.

    All are looked up at the same time, which storages that batch do in one statement. A session whose data is
    damaged, or cannot be read, counts as absent.

    Args:
        storage: The storage.
        ids: The ids.
        read: Decodes data; None if that is not possible.

    Raises:
        StorageUnavailable: If they cannot be read.
    """
    if len(ids) == 1:
        return _find(storage, ids[0], read)
    return _newest(asyncio.gather(*(_find(storage, id, read) for id in ids)))


async def _find(
    storage: ManagedSessionStorage, id: str, read: Callable[[bytes], D | None]
) -> Found[D] | None:
    try:
        if (snapshot := await storage.load(id)) is None:
            return None
        if (data := read(snapshot.data)) is not None:
            return id, snapshot, data
    except SessionCorrupt:
        pass
    log_unreadable(storage, storage.digest(id))
    return None


async def _newest(finding: Awaitable[list[Found[D] | None]]) -> Found[D] | None:
    live = [found for found in await finding if found is not None]
    return max(live, key=lambda found: found[1].info.created_at, default=None)
