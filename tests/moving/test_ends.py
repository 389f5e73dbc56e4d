"""Sessions that end while they are in the old place of a `MigratingStorage`, or on their way."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import MigratingStorage, SessionNotFound, SessionStorage, SessionStorageMemory
from sqlsessions.integrations._web.state import State
from sqlsessions.layers.migrating import MOVING
from sqlsessions.moving import OldSession
from sqlsessions.testing import ManualClock

from ..integrations.moving import process
from .test_migrating import ID, Old


class Plain(SessionStorage):
    """A plain storage over one in memory, which knows no keys."""

    def __init__(self, clock: ManualClock) -> None:
        self.kept = SessionStorageMemory(clock=clock)

    async def write(self, id: str, provider: Any) -> None:
        await self.kept.write(id, provider)

    async def read(self, id: str, consumer: Any) -> Any:
        return await self.kept.read(id, consumer)

    async def invalidate(self, id: str) -> None:
        await self.kept.invalidate(id)


async def test_a_logout_reaches_an_old_place_that_knows_no_keys(clock: ManualClock) -> None:
    old, storage = Plain(clock), SessionStorageMemory(clock=clock)
    await old.write_bytes(ID, b"{}")
    assert await process(MigratingStorage(storage, old))._moves.end(State(), ID) is True
    with pytest.raises(SessionNotFound):
        await old.read_bytes(ID)


async def test_a_logout_without_a_session_reads_no_old_sessions(clock: ManualClock) -> None:
    old = Old(OldSession(ID, b"{}"))
    listed: list[str] = []
    old.sessions = lambda: listed.append("all") or Old().sessions()  # type: ignore[method-assign, func-returns-value]
    storage = MigratingStorage(SessionStorageMemory(clock=clock), old)
    assert await process(storage)._moves.end(State(), "j" * 32) is False
    assert listed == []


async def test_revoke_all_ends_what_has_not_moved(clock: ManualClock) -> None:
    old = Old(OldSession(ID, b"{}"), OldSession("j" * 32, b"{}"))
    storage = MigratingStorage(SessionStorageMemory(clock=clock), old)
    await storage.load(ID)
    assert await storage.revoke_all() == 2
    assert await storage.load(ID) is None
    assert await storage.load("j" * 32) is None


async def test_a_marker_does_not_outlive_its_session(clock: ManualClock) -> None:
    new = SessionStorageMemory(clock=clock)
    await new.write_bytes(ID, MOVING, ttl=60)
    storage = MigratingStorage(new, Old())
    assert await storage.load(ID) is None
    clock.advance(0.001)
    assert await new.info(ID) is None


async def test_a_session_above_the_cap_is_logged_out(clock: ManualClock) -> None:
    new = SessionStorageMemory(clock=clock, max_sessions_per_subject=1, when_too_many="refuse")
    await new.write_bytes("another", b"", subject="ann")
    storage = MigratingStorage(new, Old(OldSession(ID, b"{}", subject="ann")))
    assert await storage.load(ID) is None
