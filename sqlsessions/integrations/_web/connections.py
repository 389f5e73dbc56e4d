"""Helpers that take a request or WebSocket of an ASGI framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeVar, overload

from ...errors import InvalidArgument
from ...info import SessionInfo
from ...storage import Duration
from .alive import POLICY_VIOLATION, Alive
from .asgi import SCOPE_KEY, RequestSession
from .changing import Data
from .freshness import check_fresh
from .models import StoredModel
from .refreshing import require_kept
from .session import Session
from .watching import PERIOD

M = TypeVar("M")
R = TypeVar("R")


class HasScope(Protocol):
    """A framework's request or WebSocket."""

    @property
    def scope(self) -> Any:
        """The ASGI scope."""


def current_session(connection: HasScope) -> Session:
    """``connection.session``, typed: the session of a request or WebSocket, read when it is first accessed.

    Raises:
        InvalidArgument: If the request did not pass through the middleware.
    """
    return own_of(connection).session


async def load(connection: HasScope) -> Session:
    """The session of a request or WebSocket, read if that was not done yet.

    Raises:
        StorageUnavailable: If it cannot be read.
    """
    own = own_of(connection)
    await own.load()
    return own.session


async def save(connection: HasScope) -> None:
    """Write the session now, such as during a WebSocket; the response sets the cookie of a new one.

    Raises:
        SessionNotFound: If the session ended, or another user has it, so that its changes cannot be kept.
        StorageUnavailable: If it cannot be written.
    """
    own = own_of(connection)
    own.session.state.lost = False
    await own.save()
    require_kept(own.session)


async def refresh(connection: HasScope) -> Session:
    """Read the session again, such as during a WebSocket; what was changed is written first.

    A session that got a new id, and has the same subject, is followed. If it ended or expired, or another user has
    it, it is empty afterwards and its ``ended`` is True.

    Returns:
        The session, as it is stored now.

    Raises:
        StorageUnavailable: If it cannot be read.
    """
    own = own_of(connection)
    await own.refresh()
    return own.session


def alive(connection: HasScope, *, every: Duration = PERIOD, code: int = POLICY_VIOLATION) -> Alive:
    """A block that is left as soon as the session has ended, for WebSockets and long responses.

    ``async with alive(websocket):`` runs until its body ends, or the session is ended or revoked, expires, or
    belongs to another subject. The body is then cancelled, as by `asyncio.timeout`, and a WebSocket is closed; a
    streamed response ends; before a response began, `SessionNotFound` is raised. The session is looked after by
    one task for all connections. Without a session, nothing happens.

    Args:
        connection: The WebSocket or request.
        every: Seconds, or a timedelta, after which the storage is asked again whether the session lives. Of
            several connections the shortest counts.
        code: The code with which a WebSocket is closed.

    Returns:
        An async context manager; its ``ended`` tells whether the session has ended.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidArgumentType: If an argument is of the wrong type.
        StorageUnavailable: On entering it, if the session cannot be read.
    """
    own = own_of(connection)
    close = connection.close if connection.scope["type"] == "websocket" else None  # type: ignore[attr-defined]
    return Alive(
        lambda: load(connection), own.manager.storage, close, lambda: own.began, every=every, code=code
    )


@overload
async def change(connection: HasScope, function: Callable[[Data], Awaitable[R]]) -> R: ...


@overload
async def change(connection: HasScope, function: Callable[[Data], R]) -> R: ...


async def change(connection: HasScope, function: Callable[[Data], Any]) -> Any:
    """Change the session as it is stored now, such as a counter that parallel requests increase.

    The function changes a dict that has the data as it is stored. If another request writes the session
    meanwhile, it is called again, so that it must do nothing else; of its calls one takes effect. What this
    request changed before is written first. Without a session, one is begun.

    Args:
        connection: The request or WebSocket.
        function: The function, which may be async.

    Returns:
        What the function returned.

    Raises:
        SessionNotFound: If the session ended meanwhile, or another user has it; nothing was changed.
        StorageUnavailable: If it cannot be read or written, or others use it for more than ten seconds.
        InvalidArgument: If it is called by such a function.
    """
    return await own_of(connection).change(function)


async def require_fresh(connection: HasScope, max_age: Duration) -> Session:
    """The session of a request or WebSocket, for what needs a recent login, such as a change of the password.

    Otherwise the answer has status 401, and says why as ``application/problem+json`` (RFC 9457); a WebSocket that is
    not accepted yet is refused. Show a form for the password, and call ``session.reauthenticated()``.

    Args:
        connection: The request or WebSocket.
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        ReauthenticationRequired: If the user did not log in since, or nobody is logged in.
        StorageUnavailable: If the session cannot be read.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    session = await load(connection)
    check_fresh(session, max_age)
    return session


async def list_sessions(connection: HasScope) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first; none if it has no subject."""
    session = await load(connection)
    async for info in own_of(connection).manager.listing.of(session):
        yield info


async def end_session(connection: HasScope, key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    return await own_of(connection).manager.listing.end(await load(connection), key)


async def end_other_sessions(connection: HasScope) -> int:
    """End all sessions of the same subject but this one; the number of them."""
    return await own_of(connection).manager.listing.end_others(await load(connection))


def own_of(connection: HasScope) -> RequestSession:
    """What the middleware keeps of a request or WebSocket; for integrations.

    Raises:
        InvalidArgument: If it did not pass through it.
    """
    own = connection.scope.get(SCOPE_KEY)
    if not isinstance(own, RequestSession):
        raise InvalidArgument("this request did not pass through sqlsessions' SessionMiddleware")
    return own


class ConnectionModel(StoredModel[M]):
    """A model that is stored in the session of a request or WebSocket."""

    @overload
    async def change(self, connection: HasScope, function: Callable[[M], Awaitable[R]]) -> R: ...

    @overload
    async def change(self, connection: HasScope, function: Callable[[M], R]) -> R: ...

    async def change(self, connection: HasScope, function: Callable[[M], Any]) -> Any:
        """Change the model as it is stored now: `change`, of which the function gets the model.

        Models that were given before stay as they are.

        Raises:
            SessionModelMismatch: If the model does not accept the session's data, unless set otherwise.
            SessionNotFound: As `change`.
            StorageUnavailable: As `change`.
        """
        return await change(connection, self._changing(function))
