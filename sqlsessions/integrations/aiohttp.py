"""Sessions for aiohttp-session: `AioHttpStorage`, and helpers that take a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar, cast, overload

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler

from .._tasks import finish
from ..errors import InvalidArgument, InvalidArgumentType, StorageUnavailable, UnsupportedOperation
from ..info import SessionInfo
from ..records import TWO_WEEKS, from_datetime
from ..storage import Duration, ManagedSessionStorage, new_session_id
from ._web.changing import Data, apply
from ._web.cookies import Cookie, SameSite, cookie_values, default_name
from ._web.manager import SECOND, SessionManager
from ._web.queues import request_queue
from ._web.serializers import TextSerializer
from ._web.session import UNSET
from ._web.session import Session as _Data
from ._web.unavailable import RETRY_AFTER, TEXT, Unavailable, is_raised, log

__all__ = [
    "AioHttpStorage",
    "Session",
    "change",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "save",
    "setup",
]

R = TypeVar("R")

_QUEUED = "sqlsessions.queued"  # what a request loaded that others wait for; None once its response began


class Session(aiohttp_session.Session):
    """aiohttp-session's session, with a subject, new ids on demand and an expiry of its own.

    Changes of nested values are noticed without ``changed()``.
    """

    _mapping: _Data

    def __init__(self, data: _Data, max_age: int | None, *, replaces: bool = False) -> None:
        super().__init__(None, data=None, new=True, max_age=max_age)
        self._mapping = data
        self.replaces = replaces  # the session of the request
        self.changed()  # so that the middleware always calls `save_session`, which compares the bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data and ids must not appear in logs

    @property
    def new(self) -> bool:
        """Whether the storage has no such session yet."""
        return self._mapping.is_new

    @property
    def identity(self) -> str | None:
        """The session id, a credential; None while the session is new."""
        return self._mapping.state.id

    @property
    def created(self) -> int:
        """When the session was created, in seconds since 1970 UTC."""
        info = self._mapping.info
        return self._created if info is None else from_datetime(info.created_at) // SECOND

    @property
    def max_age(self) -> int | None:
        """Seconds after its last use that the session ends and the cookie with it.

        Set it for "remember me". With None the cookie ends when the browser is closed; set to None, the
        session ends 14 days after its last use at the latest.
        """
        state = self._mapping.state
        if state.browser is None:
            return self._max_age
        return None if state.browser or state.ttl in (UNSET, None) else state.ttl // SECOND

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        self._mapping.set_expiry(TWO_WEEKS if value is None else value, browser=value is None)

    @property
    def subject(self) -> str | None:
        """The user whose session it is. Set it at login: the session then gets a new id."""
        return self._mapping.subject

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._mapping.subject = subject

    def regenerate(self) -> None:
        """Give the session a new id when it is saved; the old one is refused from then on."""
        self._mapping.regenerate()

    def invalidate(self) -> None:
        """End the session: log out. It stays ended whatever slower requests still do.

        Data that is assigned afterwards begins a new session with a new id.
        """
        self._mapping.invalidate()

    def set_new_identity(self, _identity: Any | None) -> NoReturn:
        """Refuse: an id that is not random is not safe.

        Raises:
            UnsupportedOperation: Always.
        """
        raise UnsupportedOperation("session ids are made by the key_factory of AioHttpStorage only")


class AioHttpStorage(aiohttp_session.AbstractStorage):
    """A storage for ``aiohttp_session.setup(app, AioHttpStorage(storage))``.

    Args:
        storage: The storage of the sessions; it is not closed.
        cookie_name: Name of the cookie; None, the default, is ``"AIOHTTP_SESSION"``, with ``__Host-`` before it
            if ``secure=True`` and no path or domain is set, which is the safest.
        domain: Domain of the cookie; None is only the host that set it.
        max_age: Seconds after its last use that a session ends, and age of the cookie. With None, the
            default, the cookie ends when the browser is closed, and the storage's own timeout holds.
        path: Path of the cookie.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default, for requests that
            came by https.
        httponly: True only: scripts do not need a session id.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"``; None is ``"Lax"``.
        key_factory: Makes session ids, which must be unguessable: 256 random bits unless set.
        encoder: Encodes session data as text: JSON unless set.
        decoder: Decodes it; if it raises, the session is empty.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS).
        absolute_timeout: Seconds after its creation that a session ends however much it is used; None
            leaves that to the storage.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        unavailable: What is raised while the storage is unavailable: ``"503"`` is aiohttp's
            `HTTPServiceUnavailable`; ``"raise"`` is `StorageUnavailable`, for middlewares of the
            application's own.
        serialize: Whether the requests of one session wait for each other in this process, from their first
            access to the session until it is written with the response; needs `setup`. True waits for up to
            10 seconds, a number for so many; then the session counts as unavailable.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        cookie_name: str | None = None,
        domain: str | None = None,
        max_age: int | None = None,
        path: str = "/",
        secure: bool | None = None,
        httponly: bool = True,
        samesite: str | None = None,
        key_factory: Callable[[], str] = new_session_id,
        encoder: Callable[[object], str] = json.dumps,
        decoder: Callable[[str], Any] = json.loads,
        partitioned: bool = False,
        absolute_timeout: Duration | None = None,
        rotate_on_login: bool = True,
        unavailable: Unavailable = "503",
        serialize: bool | Duration = False,
    ) -> None:
        if not httponly:
            raise InvalidArgument("httponly must be True: scripts do not need a session id")
        for name, function in (("key_factory", key_factory), ("encoder", encoder), ("decoder", decoder)):
            if not callable(function):
                raise InvalidArgumentType(f"{name} must be a function, not {type(function).__name__}")
        if cookie_name is None:
            cookie_name = default_name("AIOHTTP_SESSION", path=path, domain=domain, secure=secure)
        cookie = Cookie(cookie_name, path, domain, cast(SameSite, samesite or "lax"), secure, partitioned)
        super().__init__(
            cookie_name=cookie_name,
            domain=domain,
            max_age=max_age,
            path=path,
            secure=secure,
            samesite=cookie.same_site,
            encoder=encoder,
            decoder=decoder,
        )
        standard = encoder is json.dumps and decoder is json.loads
        self.manager = SessionManager(
            storage,
            cookie,
            max_age=max_age,
            absolute_timeout=absolute_timeout,
            serializer=None if standard else TextSerializer(encoder, decoder),
            rotate_on_login=rotate_on_login,
            new_id=key_factory,
        )
        self.raises = is_raised(unavailable)
        self._queue = request_queue(serialize)

    async def new_session(self) -> Session:
        """A new session that replaces the session of the request, which ends."""
        return Session(self.manager.open(), self.max_age, replaces=True)

    async def load_session(self, request: web.Request) -> Session:
        """The session of the request, or a new one."""
        data = self._open(request)
        try:
            await self._enter(request, data)
            await self.manager.load(data)
        except StorageUnavailable as error:
            self._fail(error)
        data.mark_accessed()
        return Session(data, self.max_age)

    async def change(self, request: web.Request, function: Callable[[Data], Any]) -> Any:
        """Change the session of a request as it is stored."""
        fresh = aiohttp_session.SESSION_KEY not in request
        session = cast(Session, await aiohttp_session.get_session(request))
        if session.replaces:
            await self.save_session(request, None, session)
        data = session._mapping  # noqa: SLF001 (the attribute is aiohttp-session's)
        try:
            return await apply(self.manager.changing.attempts(data, fresh=fresh), function)
        except StorageUnavailable as error:
            self._fail(error)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse | None, session: aiohttp_session.Session
    ) -> None:
        """Write what changed, and add the headers that the session needs.

        Args:
            request: The request.
            response: Its response; None if that has begun.
            session: Its session.
        """
        if not isinstance(session, Session):
            raise InvalidArgumentType("the session is not one that AioHttpStorage loaded")
        data = session._mapping  # noqa: SLF001 (the attribute is aiohttp-session's)
        data.state.answered = response is None
        try:
            if session.replaces:
                await self.manager.replace(self._open(request), data)
                session.replaces = False
            else:
                await self.manager.commit(data)
        except StorageUnavailable as error:
            self._fail(error)
        if response is not None:
            data.mark_accessed()
            headers = self.manager.headers.of(
                data,
                https=request.secure,
                header=request.headers.get,
                vary=",".join(response.headers.getall("Vary", [])),
                cache_control=",".join(response.headers.getall("Cache-Control", [])),
            )
            for name, value in headers:
                if name == "Cache-Control":
                    response.headers.popall(name, None)
                response.headers.add(name, value)

    def _open(self, request: web.Request) -> _Data:
        cookies = cookie_values(request.headers.getall("Cookie", ()), self.manager.cookie.name)
        return self.manager.open(*cookies)

    async def _enter(self, request: web.Request, data: _Data) -> None:
        if self._queue is None:
            return
        if _QUEUED not in request:
            raise InvalidArgument("serialize needs sqlsessions.integrations.aiohttp.setup(app, storage)")
        if request[_QUEUED] is not None:  # else the response began
            request[_QUEUED].append(data)
            await self._queue.enter(data)

    def leave(self, request: web.Request) -> None:
        """Let the other requests have the session, once it is written."""
        queued, request[_QUEUED] = request.get(_QUEUED) or (), None
        for data in queued:
            self._queue.leave(data)  # type: ignore[union-attr]  # there is one

    def _fail(self, error: StorageUnavailable) -> NoReturn:
        if self.raises:
            raise error
        log(error)
        raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER)}, text=TEXT) from error


def setup(app: web.Application, storage: AioHttpStorage) -> None:
    """`aiohttp_session.setup`, and sessions are also saved if a response is a stream or WebSocket.

    They are saved before the response begins, and again when its handler has returned.
    """

    @web.middleware
    async def leave_last(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[_QUEUED] = []
        try:
            return await handler(request)
        finally:
            storage.leave(request)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if not isinstance(response, web.Response) and aiohttp_session.SESSION_KEY in request:
            await save(request, response)
        storage.leave(request)

    @web.middleware
    async def save_last(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not isinstance(response, web.Response) and aiohttp_session.SESSION_KEY in request:
            # aiohttp may cancel the handler of a closed connection.
            await finish(asyncio.ensure_future(save(request)))
        return response

    app.middlewares.append(leave_last)
    aiohttp_session.setup(app, storage)
    app.on_response_prepare.append(prepare)
    app.middlewares.append(save_last)


async def save(request: web.Request, response: web.StreamResponse | None = None) -> None:
    """Write the session now, such as during a WebSocket.

    Args:
        request: The request.
        response: The response, if it has not begun yet and is to set the cookie of a new session.

    Raises:
        web.HTTPServiceUnavailable: If it cannot be written; or `StorageUnavailable`, as configured.
    """
    await _storage(request).save_session(request, response, await aiohttp_session.get_session(request))


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


async def list_sessions(request: web.Request) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    data = await _data(request)
    async for info in _storage(request).manager.listed(data):
        yield info


async def end_session(request: web.Request, key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    return await _storage(request).manager.end_listed(await _data(request), key)


async def end_other_sessions(request: web.Request) -> int:
    """End all sessions of the same subject but this one; the number of them."""
    return await _storage(request).manager.end_others(await _data(request))


def _storage(request: web.Request) -> AioHttpStorage:
    storage = request.get(aiohttp_session.STORAGE_KEY)
    if not isinstance(storage, AioHttpStorage):
        raise InvalidArgument("this request did not pass through aiohttp-session with an AioHttpStorage")
    return storage


async def _data(request: web.Request) -> _Data:
    session = await aiohttp_session.get_session(request)
    return cast(Session, session)._mapping  # noqa: SLF001
