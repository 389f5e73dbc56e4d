"""The session of a request in an ASGI middleware, and helpers that take a request, of any framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol, TypeVar, overload

from ..._tasks import finish
from ...errors import InvalidArgument, StorageUnavailable, UnsupportedOperation
from ...info import SessionInfo
from .blocking import LateReader
from .changing import Data, apply
from .cookies import cookie_values
from .greenlets import GreenletBridge
from .manager import SessionManager
from .queues import RequestQueue
from .session import Session
from .unavailable import HEADERS, STATUS, TEXT, WEBSOCKET_CODE, log

logger = logging.getLogger("sqlsessions")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]
R = TypeVar("R")

_SCOPE_KEY = "sqlsessions"
_BEGINS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_HINT = "`await load(request)` first, or set eager=True"


class RequestSession:
    """The session of one request or WebSocket, from its first to its last message.

    Args:
        app: The application inside the middleware.
        scope: The ASGI scope; gets ``session``, or a copy does if it has one of ours.
        receive: The ASGI receive function.
        send: The ASGI send function.
        manager: Loads and writes the session.
        eager: Whether to load before the application is called.
        raises: Whether `StorageUnavailable` is raised for the application to handle.
        queue: Where HTTP requests of a session wait for each other; None if they do not.
    """

    def __init__(
        self,
        app: App,
        scope: Any,
        receive: Receive,
        send: Send,
        *,
        manager: SessionManager,
        eager: bool,
        raises: bool,
        queue: RequestQueue | None = None,
    ) -> None:
        self.app = app
        # What lies outside of a mounted application keeps its own session.
        self.scope: MutableMapping[str, Any] = dict(scope) if _SCOPE_KEY in scope else scope
        self.receive = receive
        self.send = send
        self.manager = manager
        self.eager = eager
        self.raises = raises
        self.queue = queue if scope["type"] == "http" else None
        self.https = is_https(scope)
        self.failure: Exception | None = None  # of the last read or write of the session
        self.began = False
        self._unwritten = self._refused = False
        self._bridge = GreenletBridge(_HINT)
        self.session = manager.open(*cookies_of(scope, manager.cookie.name), load=self._read)
        self._known = {None, *self.session.state.candidates}  # ids that the browser has or is sent
        self.scope["session"] = self.session
        self.scope[_SCOPE_KEY] = self

    async def serve(self) -> None:
        """Call the application, and write the session."""
        try:
            if self.eager:
                await self.load()
            if self.session.loaded:
                await self._answered()
            else:
                await self._bridge.run(self._answered())
            if not self._unwritten and not self._refused:
                await self._finish()
        except StorageUnavailable as error:
            if self.raises or error is not self.failure or self.began or self._refused:
                raise
            await self._refuse(error)
        finally:
            self._forget()

    def _forget(self) -> None:
        """Break the reference cycles, which would make the garbage collector run every few requests."""
        if self.session.loaded:
            self.session.detach()
        else:
            over = self.began or self._refused  # else an outer error handler may look at the session
            self.session.detach(LateReader(self.manager, asyncio.current_task() if over else None, _HINT))
        self.failure = None
        self._leave()
        del self.scope[_SCOPE_KEY]

    async def load(self) -> None:
        """Read the session, unless that was done."""
        if not self.session.loaded:
            await self._bridge.outside(self._load)

    def _read(self, _session: Session) -> None:
        try:
            self._bridge.wait(self.manager, self._load)
        except UnsupportedOperation:
            self.failure = None  # an error of the application's, not of the storage
            raise

    async def _load(self) -> None:
        try:
            if self.queue is not None and not self.began:
                await self.queue.enter(self.session)
            await self.manager.load(self.session)
        except Exception as error:
            self.failure = error
            raise
        self.failure = None

    async def save(self) -> None:
        """Write the session, if it changed."""
        try:
            await self._commit()
        except Exception as error:
            self.failure = error
            raise
        self.failure = None

    async def change(self, function: Callable[[Data], Any]) -> Any:
        """Change the session as it is stored."""
        fresh = not self.session.loaded
        await self.load()
        try:
            result = await apply(self.manager.changing.attempts(self.session, fresh=fresh), function)
        except StorageUnavailable as error:
            self.failure = error
            raise
        self.failure = None
        return result

    def _leave(self) -> None:
        if self.queue is not None:
            self.queue.leave(self.session)

    async def _answered(self) -> None:
        await self.app(self.scope, self.receive, self._send)

    async def _commit(self) -> None:
        await self.manager.commit(self.session)

    async def _send(self, message: Any) -> None:
        if self._refused:
            return
        begins = message["type"] in _BEGINS
        if not self.began and not self._unwritten and (begins or message["type"] == "websocket.close"):
            if begins and self.session.accessed and not self.session.loaded:
                await self.load()  # the application may send the body from another task, which cannot
            try:
                await self.save()
            except Exception as error:
                self._unwritten = True
                if self.raises or not isinstance(error, StorageUnavailable):
                    raise
                await self._refuse(error)
                return
        if begins and not self.began:
            self.began = True
            self.session.state.accessed_since = False
            message = self._with_headers(message)
            self._leave()  # streams may last for long
        await self.send(message)

    async def _finish(self) -> None:
        """Write what changed after the response began."""
        state = self.session.state
        if self.began and self.scope["type"] == "http" and not (state.accessed_since or state.sources):
            return
        await finish(
            asyncio.ensure_future(self.save())
        )  # a server may cancel the task of a closed connection
        cookie = self.manager.headers.set_cookie(self.session, https=self.https)
        if self.began and cookie is not None and self.session.state.id not in self._known:
            logger.warning(
                "a session got its id after the response began, too late for its cookie to be sent"
            )

    def _with_headers(self, message: Any) -> Any:
        """A copy of a message with the headers that the session needs; a response cache may keep the original."""
        headers: list[Header] = list(message.get("headers") or ())
        for title, value in self.manager.headers.of(
            self.session,
            https=self.https,
            header=self._request_header,
            vary=_joined(headers, b"vary"),
            cache_control=_joined(headers, b"cache-control"),
        ):
            name = title.lower().encode()
            if name == b"cache-control":
                headers = [header for header in headers if header[0].lower() != name]
            headers.append((name, value.encode("latin-1")))
        self._known.add(self.session.state.id)
        return {**message, "headers": headers}

    def _request_header(self, name: str) -> str | None:
        return _joined(self.scope["headers"], name.encode()) or None

    async def _refuse(self, error: StorageUnavailable) -> None:
        """Answer that the storage is unavailable."""
        self._refused = True
        log(error)
        if self.scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": WEBSOCKET_CODE})
            return
        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        # The session may have got a new id before the error, and only this cookie leads to it.
        await self.send(
            self._with_headers({"type": "http.response.start", "status": STATUS, "headers": headers})
        )
        await self.send({"type": "http.response.body", "body": TEXT.encode(), "more_body": False})


def cookies_of(scope: Any, name: str) -> list[str]:
    """All values of a cookie of a request or WebSocket."""
    return cookie_values(
        (header.decode("latin-1") for key, header in scope["headers"] if key == b"cookie"), name
    )


def _joined(headers: Iterable[Header], name: bytes) -> str:
    """The value of a header that may be given several times; empty if it is not given."""
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)


def is_https(scope: Any) -> bool:
    """Whether a request or WebSocket came by TLS."""
    return scope.get("scheme") in ("https", "wss")


class HasScope(Protocol):
    """A framework's request or WebSocket."""

    @property
    def scope(self) -> Any:
        """The ASGI scope."""


async def load(connection: HasScope) -> Session:
    """The session of a request or WebSocket, read if that was not done yet.

    Raises:
        StorageUnavailable: If it cannot be read.
    """
    own = _own(connection)
    await own.load()
    return own.session


async def save(connection: HasScope) -> None:
    """Write the session now, such as during a WebSocket; the response sets the cookie of a new one.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    await _own(connection).save()


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
    return await _own(connection).change(function)


async def list_sessions(connection: HasScope) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    session = await load(connection)
    async for info in _own(connection).manager.listed(session):
        yield info


async def end_session(connection: HasScope, key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    return await _own(connection).manager.end_listed(await load(connection), key)


async def end_other_sessions(connection: HasScope) -> int:
    """End all sessions of the same subject but this one; the number of them."""
    return await _own(connection).manager.end_others(await load(connection))


def _own(connection: HasScope) -> RequestSession:
    own = connection.scope.get(_SCOPE_KEY)
    if not isinstance(own, RequestSession):
        raise InvalidArgument("this request did not pass through sqlsessions' SessionMiddleware")
    return own
