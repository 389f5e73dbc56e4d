"""Sessions whose data cannot be read, where the contract of integrations does not reach."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sqlsessions import (
    SessionCorrupt,
    SessionNotFound,
    SessionStorageMemory,
    Snapshot,
    Successor,
    new_session_id,
)
from sqlsessions.integrations._web.changing import apply
from sqlsessions.integrations._web.cookies import Cookie
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.integrations._web.timeouts import Timeouts
from sqlsessions.testing import ManualClock

BAD = b"\xff"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def storage(clock: ManualClock) -> SessionStorageMemory:
    return SessionStorageMemory(clock=clock)


@pytest.fixture
def manager(storage: SessionStorageMemory) -> SessionManager:
    return SessionManager(storage, Cookie(), timeouts=Timeouts())


async def stored(manager: SessionManager, subject: str | None = None, **data: Any) -> str:
    """The id of a new session."""
    session = manager.open()
    session.update(data)
    if subject is not None:
        session.subject = subject
    await manager.commit(session)
    assert session.state.id is not None
    return session.state.id


async def opened(manager: SessionManager, *ids: str) -> Session:
    session = manager.open(*ids)
    await manager.load(session)
    session.mark_accessed()
    return session


async def test_of_several_sessions_one_that_can_be_read_is_used(
    manager: SessionManager, storage: SessionStorageMemory, clock: ManualClock
) -> None:
    old = await stored(manager, a=1)
    clock.advance(1)
    new = await stored(manager, a=2)
    await storage.write_bytes(new, BAD)
    for ids in ((old, new), (new, old)):
        session = await opened(manager, *ids)
        assert session.plain() == {"a": 1}
        await manager.commit(session)
        assert not session.state.clear_due


async def test_a_change_of_data_that_became_unreadable(
    manager: SessionManager, storage: SessionStorageMemory
) -> None:
    id = await stored(manager, "ann", a=1)
    session = await opened(manager, id)
    await storage.write_bytes(id, BAD)
    with pytest.raises(SessionNotFound, match="cannot be read"):
        await apply(manager.changing.attempts(session), lambda data: data.update(b=2))
    assert await storage.read_bytes(id) == BAD


async def test_a_change_of_unreadable_data_begins_a_session(
    manager: SessionManager, storage: SessionStorageMemory
) -> None:
    id = await stored(manager, "ann", a=1)
    await storage.write_bytes(id, BAD)
    session = await opened(manager, id)
    await apply(manager.changing.attempts(session, fresh=True), lambda data: data.update(b=2))
    assert session.state.id != id
    assert session.subject is None
    assert await storage.read_bytes(id) == BAD


async def test_changes_do_not_follow_to_data_that_cannot_be_read(
    manager: SessionManager, storage: SessionStorageMemory, caplog: pytest.LogCaptureFixture
) -> None:
    id = await stored(manager, a=1)
    session = await opened(manager, id)
    await storage.rotate(id, new := new_session_id())
    await storage.write_bytes(new, BAD)
    session["b"] = 2
    with caplog.at_level(logging.INFO):
        await manager.commit(session)
    assert await storage.read_bytes(new) == BAD
    assert "its changes are dropped" in caplog.text
    assert "unreadable session presented" in caplog.text


async def test_a_login_over_data_that_became_unreadable_begins_a_session(
    manager: SessionManager, storage: SessionStorageMemory
) -> None:
    id = await stored(manager, restricted=True)
    session = await opened(manager, id)
    await storage.write_bytes(id, BAD)
    session.subject = "ann"
    session["b"] = 2
    await manager.commit(session)
    assert session.state.id is not None
    assert (await opened(manager, session.state.id)).plain() == {"b": 2}


class Damaged(SessionStorageMemory):
    """A storage that finds the data of its sessions incomplete, once told so."""

    damaged = False

    async def load(self, id: str) -> Snapshot | None:
        if self.damaged:
            raise SessionCorrupt("the stored data does not match its recorded size")
        return await super().load(id)

    async def load_key(self, key: str) -> Snapshot | None:
        if self.damaged:
            raise SessionCorrupt("the stored data does not match its recorded size")
        return await super().load_key(key)


@pytest.mark.parametrize("moved", [False, True])
async def test_changes_to_damaged_data_are_dropped(moved: bool, caplog: pytest.LogCaptureFixture) -> None:
    storage = Damaged()
    manager = SessionManager(storage, Cookie(), timeouts=Timeouts())
    id = await stored(manager, a=1)
    session = await opened(manager, id)
    if moved:
        await storage.rotate(id, new_session_id())
        assert isinstance(await storage.successor(id), Successor)
    else:
        await storage.write_bytes(id, b'{"a":2}')
    storage.damaged = True
    session["b"] = 2
    with caplog.at_level(logging.INFO):
        await manager.commit(session)
    assert "its changes are dropped" in caplog.text
    assert "unreadable session presented" in caplog.text


async def test_a_change_of_damaged_data() -> None:
    storage = Damaged()
    manager = SessionManager(storage, Cookie(), timeouts=Timeouts())
    session = await opened(manager, await stored(manager, a=1))
    storage.damaged = True
    with pytest.raises(SessionNotFound):
        await apply(manager.changing.attempts(session), lambda data: data.update(b=2))
