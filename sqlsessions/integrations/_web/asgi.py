"""The session of a request in an ASGI middleware."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from ..._tasks import finish
from ...errors import ReauthenticationRequired, StorageUnavailable, UnsupportedOperation
from . import freshness
from .blocking import LateReader
from .changing import Data, apply
from .clients import address_of
from .cookies import cookie_values
from .endings import write_last
from .greenlets import GreenletBridge
from .manager import SessionManager
from .opening import open_from
from .queues import RequestQueue
from .session import Session
from .unavailable import HEADERS, STATUS, TEXT, WEBSOCKET_CODE, log

logger = logging.getLogger("sqlsessions")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]

SCOPE_KEY = "sqlsessions"
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

    Attributes:
        failure: Of the last read or write of the session.
        began: Whether the response began.
    """

    failure: Exception | None = None
    began: bool = False
    _unwritten: bool = False
    _refused: bool = False
    _sent: tuple[str | None, ...] = ()  # ids that the client was given

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
        self.scope: MutableMapping[str, Any] = dict(scope) if SCOPE_KEY in scope else scope
        self.receive = receive
        self.send = send
        self.manager = manager
        self.eager = eager
        self.raises = raises
        self.queue = queue if scope["type"] == "http" else None
        self.session = session = open_request(manager, scope, self._read)
        self._bridge = None if session.loaded else GreenletBridge(_HINT)
        self.scope["session"] = session
        self.scope[SCOPE_KEY] = self

    async def serve(self) -> None:
        """Call the application, and write the session."""
        try:
            if self.eager and not self.session.loaded:
                await self._load()
            try:
                if self.session.loaded or self._bridge is None:
                    await self.app(self.scope, self.receive, self._send)
                else:
                    await self._bridge.run(self.app, self.scope, self.receive, self._send)
            except (Exception, asyncio.CancelledError):
                # Such as a client that left; no answer that follows could have the session written.
                if self.began or self.scope["type"] == "websocket":
                    failure = self.failure
                    await write_last(self._finish())
                    self.failure = failure
                raise
            if not self._is_over():
                await self._finish()
        except ReauthenticationRequired as error:
            if self.began:
                raise
            await self._demand_login(error)
        except StorageUnavailable as error:
            if self.raises or error is not self.failure or self.began or self._refused:
                raise
            await self._refuse(error)
        finally:
            self._forget()

    def _forget(self) -> None:
        """Break the reference cycles, which would make the garbage collector run every few requests."""
        if self._bridge is not None:
            if self.session.loaded:
                self.session.detach()
            else:
                over = self.began or self._refused  # else an outer error handler may look at the session
                self.session.detach(LateReader(self.manager, self._bridge.task if over else None, _HINT))
        self.failure = None
        if self.session.state.client is not None:
            self.session.state.client = None
        if self.queue is not None:
            self.queue.leave(self.session)
        del self.scope[SCOPE_KEY]

    async def load(self) -> None:
        """Read the session, unless that was done."""
        if self._bridge is not None and not self.session.loaded:
            await self._bridge.outside(self._load)

    def _read(self, _session: Session) -> None:
        try:
            self._bridge.wait(self.manager, self._load)  # type: ignore[union-attr]  # as there is a session to read
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

    async def refresh(self) -> None:
        """Read the session again."""
        if not self.session.loaded:
            await self.load()
            return
        await self.save()  # as it may have been replaced
        try:
            await self.manager.refresh(self.session)
        except StorageUnavailable as error:
            self.failure = error
            raise

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

    def _commit(self) -> Awaitable[None]:
        return self.manager.commit(self.session)

    async def _send(self, message: Any) -> None:
        if self._refused:
            return
        if self.began:
            await self.send(message)
            return
        session, begins = self.session, message["type"] in _BEGINS
        if not self._unwritten and (begins or message["type"] == "websocket.close"):
            if begins and session.accessed and not session.loaded:
                await self.load()  # the application may send the body from another task, which cannot
            try:
                # Handlers of Litestar's may have put something else in its place.
                if session.is_in_use or self.scope.get("session") is not session:
                    await self.save()
                else:
                    self.failure = None
            except Exception as error:
                self._unwritten = True
                if self.raises or not isinstance(error, StorageUnavailable):
                    raise
                await self._refuse(error)
                return
        if begins:
            self.began = True
            session.state.accessed_since = False
            message = self._with_headers(message)
            if self.queue is not None:
                self.queue.leave(session)  # streams may last for long
        await self.send(message)

    def _is_over(self) -> bool:
        """Whether there is nothing more to write."""
        state = self.session.state
        if self.began and self.scope["type"] == "http" and not (state.accessed_since or state.sources):
            return True
        return self._unwritten or self._refused

    async def _finish(self) -> None:
        """Write what changed after the response began."""
        if self._is_over():
            return
        await finish(
            asyncio.ensure_future(self.save())
        )  # a server may cancel the task of a closed connection
        state, due = self.session.state, self.manager.headers.of_id(self.session, https=is_https(self.scope))
        if self.began and due is not None and state.id not in (None, *state.candidates, *self._sent):
            logger.warning("a session got its id after the response began, too late for the client to get it")

    def _with_headers(self, message: Any) -> Any:
        """A copy of a message with the headers that the session needs; a response cache may keep the original."""
        state = self.session.state
        if not (self.session.accessed or state.cookie_due or state.clear_due):
            state.answered = True
            return message
        headers: list[Header] = list(message.get("headers") or ())
        vary, cache_control = _caching_of(headers)
        given = self.manager.headers.of(
            self.session,
            https=is_https(self.scope),
            header=self._request_header,
            vary=vary,
            cache_control=cache_control,
        )
        if cache_control and any(title == "Cache-Control" for title, _ in given):
            headers = [header for header in headers if header[0].lower() != b"cache-control"]
        headers += self.manager.headers.encoded(given)
        self._sent += (state.id,)
        return {**message, "headers": headers}

    def _request_header(self, name: str) -> str | None:
        return ",".join(header_values(self.scope, name)) or None

    async def _demand_login(self, error: ReauthenticationRequired) -> None:
        """Answer that the user has to log in again."""
        if self.scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": freshness.WEBSOCKET_CODE})
            return
        said = {"Content-Type": freshness.MEDIA_TYPE} | freshness.challenge(error, self.session)
        headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]
        await self._send({"type": "http.response.start", "status": freshness.STATUS, "headers": headers})
        await self._send({"type": "http.response.body", "body": freshness.problem(error).encode()})

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


def open_request(
    manager: SessionManager, scope: Any, load: Callable[[Session], None] | None = None
) -> Session:
    """The session of a request or WebSocket; see `open_from`."""
    headers, address = partial(header_values, scope), partial(address_of, scope)
    return open_from(manager, Session, headers, load, address=address)


def cookies_of(scope: Any, name: str) -> list[str]:
    """All values of a cookie of a request or WebSocket."""
    return cookie_values(header_values(scope, "Cookie"), name)


def header_values(scope: Any, name: str) -> list[str]:
    """All values of a header of a request or WebSocket."""
    wanted, values = name.lower().encode(), []
    for key, value in scope["headers"]:
        if key == wanted:
            values.append(value.decode("latin-1"))
    return values


def _caching_of(headers: Iterable[Header]) -> tuple[str, str]:
    """The ``Vary`` and ``Cache-Control`` of a response, which may be given several times; empty if they are not."""
    vary, cache_control = [], []
    for key, value in headers:
        name = key.lower()
        if name == b"vary":
            vary.append(value.decode("latin-1"))
        elif name == b"cache-control":
            cache_control.append(value.decode("latin-1"))
    return ",".join(vary), ",".join(cache_control)


def is_https(scope: Any) -> bool:
    """Whether a request or WebSocket came by TLS."""
    return scope.get("scheme") in ("https", "wss")
