"""Managers over one storage, which stand for processes, and requests through them."""

from __future__ import annotations

from typing import Any

from sqlsessions import SessionInfo
from sqlsessions.integrations._web.cookies import Cookie
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.integrations._web.timeouts import Timeouts
from sqlsessions.storage import DEFAULT, Default, Duration
from sqlsessions.testing import SpyStorage

DAY = 24 * 60 * 60
DROPPED = "its changes are dropped"


def process(
    storage: Any, ttl: Duration | Default | None = DAY, *, persistent: bool = True, **options: Any
) -> SessionManager:
    guests = options.pop("anonymous_ttl", DEFAULT)
    timeouts = Timeouts.checked(ttl, None, expire_at_browser_close=not persistent, anonymous_ttl=guests)
    return SessionManager(storage, Cookie(), timeouts=timeouts, **options)


async def begin(manager: SessionManager, subject: str | None = None, **data: Any) -> str:
    """The id of a new session."""
    session = manager.open(None)
    session.update(data)
    if subject is not None:
        session.subject = subject
    await manager.commit(session)
    return id_of(session)


async def read(manager: SessionManager, id: str) -> Session:
    """The session of a request that accessed it."""
    session = manager.open(id)
    await manager.load(session)
    session.mark_accessed()
    return session


async def answer(manager: SessionManager, session: Session) -> str | None:
    """The cookie that the response sets once the session is written."""
    await manager.commit(session)
    return manager.headers.set_cookie(session, https=True)


def id_of(session: Session) -> str:
    assert session.state.id is not None
    return session.state.id


async def login(manager: SessionManager, id: str, subject: str = "ann", **data: Any) -> str:
    session = await read(manager, id)
    session.subject = subject
    session.update(data)
    await answer(manager, session)
    return id_of(session)


async def regenerate(manager: SessionManager, id: str, **data: Any) -> str:
    session = await read(manager, id)
    session.regenerate()
    session.update(data)
    assert await answer(manager, session)
    return id_of(session)


async def data_of(manager: SessionManager, id: str) -> dict[str, Any]:
    return (await read(manager, id)).plain()


async def sessions(storage: SpyStorage) -> list[SessionInfo]:
    return [info async for info in storage.sessions()]
