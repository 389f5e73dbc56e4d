"""Sessions for aiohttp-session: `AioHttpStorage`, and helpers that take a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast, overload

from ..errors import InvalidArgument, ReauthenticationRequired, missing

try:
    import aiohttp_session
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.aiohttp", "aiohttp") from error
from aiohttp import web
from aiohttp.typedefs import Handler

from .._tasks import finish
from ..info import SessionInfo
from ..storage import Duration
from ._aiohttp_session import Session
from ._aiohttp_storage import QUEUED, AioHttpStorage
from ._web.alive import POLICY_VIOLATION, Alive
from ._web.changing import Data
from ._web.clients import ClientRequest, address_and_user_agent
from ._web.cookies import Cookie
from ._web.endings import write_last
from ._web.freshness import MEDIA_TYPE, challenge, check_fresh, problem
from ._web.models import StoredModel
from ._web.refreshing import require_kept
from ._web.session import Session as _Data
from ._web.transports import Bearer
from ._web.watching import PERIOD

__all__ = [
    "AioHttpStorage",
    "Bearer",
    "ClientRequest",
    "Cookie",
    "Session",
    "SessionModel",
    "address_and_user_agent",
    "alive",
    "change",
    "current_session",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "refresh",
    "require_fresh",
    "save",
    "setup",
]

M = TypeVar("M")
R = TypeVar("R")

_STREAM = "sqlsessions.stream"  # the stream or WebSocket that a request is answered with, once it began


def setup(app: web.Application, storage: AioHttpStorage) -> None:
    """`aiohttp_session.setup`, and sessions are also saved if a response is a stream or WebSocket.

    They are saved before the response begins, and again when its handler has returned.
    """

    @web.middleware
    async def leave_last(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[QUEUED] = []
        try:
            return await handler(request)
        finally:
            storage.leave(request)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if not isinstance(response, web.Response):
            request[_STREAM] = response
            if aiohttp_session.SESSION_KEY in request:
                await _save(request, response)
        storage.leave(request)

    @web.middleware
    async def save_last(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except (Exception, asyncio.CancelledError):  # such as a client that left
            if _STREAM in request and aiohttp_session.SESSION_KEY in request:
                await write_last(_save(request))
            raise
        if not isinstance(response, web.Response) and aiohttp_session.SESSION_KEY in request:
            # aiohttp may cancel the handler of a closed connection.
            await finish(asyncio.ensure_future(_save(request)))
        return response

    app.middlewares.append(leave_last)
    aiohttp_session.setup(app, storage)
    app.on_response_prepare.append(prepare)
    app.middlewares.append(save_last)


async def current_session(request: web.Request) -> Session:
    """`aiohttp_session.get_session`, typed: the session of a request.

    Raises:
        InvalidArgument: If the request did not pass through aiohttp-session with an `AioHttpStorage`.
        web.HTTPServiceUnavailable: If it cannot be read; or `StorageUnavailable`, as configured.
    """
    _storage(request)  # or raise
    return cast(Session, await aiohttp_session.get_session(request))


async def save(request: web.Request, response: web.StreamResponse | None = None) -> None:
    """Write the session now, such as during a WebSocket.

    Args:
        request: The request.
        response: The response, if it has not begun yet and is to set the cookie of a new session.

    Raises:
        SessionNotFound: If the session ended, or another user has it, so that its changes cannot be kept.
        web.HTTPServiceUnavailable: If it cannot be written; or `StorageUnavailable`, as configured.
    """
    data = await _data(request)
    data.state.lost = False
    await _save(request, response)
    require_kept(data)


async def _save(request: web.Request, response: web.StreamResponse | None = None) -> None:
    await _storage(request).save_session(request, response, await aiohttp_session.get_session(request))


async def refresh(request: web.Request) -> Session:
    """Read the session again, such as during a WebSocket; what was changed is written first.

    A session that got a new id, and has the same subject, is followed. If it ended or expired, or another user has
    it, it is empty afterwards and its ``ended`` is True.

    Returns:
        The session, as it is stored now.

    Raises:
        web.HTTPServiceUnavailable: If it cannot be read; or `StorageUnavailable`, as configured.
    """
    await _storage(request).refresh(await _data(request))
    return await current_session(request)


def alive(request: web.Request, *, every: Duration = PERIOD, code: int = POLICY_VIOLATION) -> Alive:
    """A block that is left as soon as the session has ended, for WebSockets and long responses; needs `setup`.

    ``async with alive(request):`` runs until its body ends, or the session is ended or revoked, expires, or
    belongs to another subject. The body is then cancelled, as by `asyncio.timeout`, and a WebSocket that was
    prepared is closed; before a response began, `SessionNotFound` is raised. The session is looked after by one
    task for all connections. Without a session, nothing happens.

    Args:
        request: The request.
        every: Seconds, or a timedelta, after which the storage is asked again whether the session lives. Of
            several connections the shortest counts.
        code: The code with which a WebSocket is closed.

    Returns:
        An async context manager; its ``ended`` tells whether the session has ended.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidArgumentType: If an argument is of the wrong type.
        web.HTTPServiceUnavailable: On entering it, if the session cannot be read; or `StorageUnavailable`, as
            configured.
    """
    if QUEUED not in request:
        raise InvalidArgument("alive needs sqlsessions.integrations.aiohttp.setup(app, storage)")
    socket: Any = request.get(_STREAM)

    async def close(code: int, reason: str) -> None:
        await socket.close(code=code, message=reason.encode())

    return Alive(
        lambda: _data(request),
        _storage(request).manager.storage,
        close if isinstance(socket, web.WebSocketResponse) else None,
        lambda: _STREAM in request,
        every=every,
        code=code,
    )


@overload
async def change(request: web.Request, function: Callable[[Data], Awaitable[R]]) -> R: ...


@overload
async def change(request: web.Request, function: Callable[[Data], R]) -> R: ...


async def change(request: web.Request, function: Callable[[Data], Any]) -> Any:
    """Change the session as it is stored now, such as a counter that parallel requests increase.

    The function changes a dict that has the data as it is stored. If another request writes the session
    meanwhile, it is called again, so that it must do nothing else; of its calls one takes effect. What this
    request changed before is written first. Without a session, one is begun.

    Returns:
        What the function returned, which may be async.

    Raises:
        SessionNotFound: If the session ended meanwhile, or another user has it; nothing was changed.
        web.HTTPServiceUnavailable: If it cannot be read or written, or others use it for more than ten
            seconds; or `StorageUnavailable`, as configured.
        InvalidArgument: If it is called by such a function.
    """
    return await _storage(request).change(request, function)


class SessionModel(StoredModel[M]):
    """Part of a session as a model: ``await carts(request)``, where ``carts = SessionModel(Cart)``.

    Changes of it are written to the session with the response, merged field by field with those of other requests.

    Whatever the model accepts comes back equal. Fields are stored by their own names, whatever their aliases.

    Args:
        model: A pydantic model, a msgspec Struct, or a dataclass, which msgspec encodes unless it is one of
            pydantic's. Its fields all have defaults.
        key: The key of its data in the session. The name of the model unless set.
        invalid: What becomes of data that the model does not accept, such as that of an earlier version of it:
            ``"raise"`` raises `SessionModelMismatch`; ``"defaults"`` gives a model without data, with a warning,
            which replaces the data once it is changed.

    Raises:
        InvalidArgument: If the model cannot be made without arguments, ``invalid`` is neither, or msgspec is needed
            and not installed.
    """

    async def __call__(self, request: web.Request) -> M:
        """The model of a request.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            web.HTTPServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        """
        return self._give(await _data(request))

    @overload
    async def change(self, request: web.Request, function: Callable[[M], Awaitable[R]]) -> R: ...

    @overload
    async def change(self, request: web.Request, function: Callable[[M], R]) -> R: ...

    async def change(self, request: web.Request, function: Callable[[M], Any]) -> Any:
        """Change the model as it is stored now: `change`, of which the function gets the model.

        Models that were given before stay as they are.

        Raises:
            SessionModelMismatch: If the model does not accept the session's data, unless set otherwise.
            SessionNotFound: As `change`.
            web.HTTPServiceUnavailable: As `change`.
        """
        return await change(request, self._changing(function))


async def require_fresh(request: web.Request, max_age: Duration) -> Session:
    """The session of a request, for what needs a recent login, such as a change of the password.

    Otherwise the answer has status 401, and says why as ``application/problem+json`` (RFC 9457). Show a form for the
    password, and call ``session.reauthenticated()``.

    Args:
        request: The request.
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        web.HTTPUnauthorized: If the user did not log in since, or nobody is logged in; its cause is
            `ReauthenticationRequired`.
        web.HTTPServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    data = await _data(request)
    try:
        check_fresh(data, max_age)
    except ReauthenticationRequired as error:
        raise web.HTTPUnauthorized(
            text=problem(error), content_type=MEDIA_TYPE, headers=challenge(error, data)
        ) from error
    return cast(Session, await aiohttp_session.get_session(request))


async def list_sessions(request: web.Request) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first; none if it has no subject."""
    data = await _data(request)
    async for info in _storage(request).manager.listing.of(data):
        yield info


async def end_session(request: web.Request, key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    return await _storage(request).manager.listing.end(await _data(request), key)


async def end_other_sessions(request: web.Request) -> int:
    """End all sessions of the same subject but this one; the number of them."""
    return await _storage(request).manager.listing.end_others(await _data(request))


def _storage(request: web.Request) -> AioHttpStorage:
    storage = request.get(aiohttp_session.STORAGE_KEY)
    if not isinstance(storage, AioHttpStorage):
        raise InvalidArgument("this request did not pass through aiohttp-session with an AioHttpStorage")
    return storage


async def _data(request: web.Request) -> _Data:
    return (await current_session(request))._mapping  # noqa: SLF001
