"""How administrators find sessions: by subject, by key, or by the beginning of a key."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..delegating import DelegatingStorage
from ..errors import InvalidArgument
from ..info import SessionInfo
from ..sql import SqlSessionStorage
from ..sql.internals import keys_from
from ..storage import ManagedSessionStorage

MOST = 100  # sessions that are listed
LEAST_DIGITS = 6  # of the beginning of a key
KEY_DIGITS = 64
HEX = set("0123456789abcdefABCDEF")


class Found(NamedTuple):
    """What a search found.

    Attributes:
        of_subject: The sessions of the subject, the newest first.
        by_key: Those of a key, or of keys that begin so.
        more: Whether the subject has more sessions than are listed.
    """

    of_subject: list[SessionInfo]
    by_key: list[SessionInfo]
    more: bool


async def find(storage: ManagedSessionStorage, query: str) -> Found:
    """The sessions of a subject, and those of a key or the beginning of one."""
    infos: list[SessionInfo] = []
    more = False
    try:
        async for info in storage.sessions(query):
            if more := len(infos) == MOST:
                break
            infos.append(info)
    except InvalidArgument:
        pass  # it can be no subject
    by_key = await _by_key(storage, query.lower()) if set(query) <= HEX else []
    return Found(infos, [info for info in by_key if info not in infos], more=more)


async def _by_key(storage: ManagedSessionStorage, query: str) -> list[SessionInfo]:
    keys = [query] if len(query) == KEY_DIGITS else []
    if LEAST_DIGITS <= len(query) < KEY_DIGITS and (sql := sql_beneath(storage)) is not None:
        keys = await keys_from(sql, query)
    found = await storage.infos(keys) if keys else {}
    return [found[key] for key in keys if key in found]


def sql_beneath(storage: ManagedSessionStorage) -> SqlSessionStorage | None:
    """The `SqlSessionStorage` beneath the layers; None if there is none."""
    beneath: Any = storage
    while isinstance(beneath, DelegatingStorage):
        beneath = beneath.delegate
    return beneath if isinstance(beneath, SqlSessionStorage) else None
