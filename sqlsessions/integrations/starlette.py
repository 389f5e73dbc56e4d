"""Sessions for Starlette and FastAPI: `SessionMiddleware`, and helpers that take a request."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.from_thread
from starlette.datastructures import MutableHeaders
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InvalidArgument, StorageUnavailable
from ..storage import Duration, ManagedSessionStorage, SessionInfo
from ._cookies import Cookie, SameSite
from ._lazily import Awaiting
from ._manager import SessionManager
from ._serializers import Serializer
from ._session import Session

__all__ = [
    "Session",
    "SessionMiddleware",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "save",
]

logger = logging.getLogger("sqlsessions")

GRACE = 10.0  # seconds for a last write
_BEGINS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_BODY = b"The session storage is unavailable. Try again later."
_TRY_AGAIN_LATER = 1013  # https://www.iana.org/assignments/websocket


class SessionMiddleware:
    """Server-side sessions in place of Starlette's own middleware of this name.

    ``request.session`` is a `Session`: a dict that is read when first looked at, and written, if it
    changed, before the response begins. A request that never looks at it costs nothing.

    Args:
        app: The application.
        storage: Where sessions are; the middleware does not close it.
        session_cookie: Name of the cookie. The prefix ``__Host-`` is the safest.
        max_age: Seconds after its last use that a session ends, and age of the cookie. 14 days unless
            set; with None the browser forgets the cookie when closed, and the storage's own timeout
            holds.
        path: Path of the cookie.
        same_site: ``"lax"``, ``"strict"`` or ``"none"``.
        https_only: Whether the cookie is ``Secure``: True, False, or None, the default, wherever the
            request came by https.
        domain: Domain of the cookie; None is the host alone.
        partitioned: Whether the cookie is kept apart for each top-level site (CHIPS).
        secret_key: Ignored: ids are random, so nothing is signed.
        absolute_timeout: Seconds after its creation that a session ends however much it is used.
        serializer: Turns data into bytes: an object with ``dumps`` and ``loads``. JSON unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        eager: Whether to read the session before the application is called, if there is a cookie.
            False reads it when first looked at, which works in the middleware's own task and in
            worker threads; None, the default, is True where a `BaseHTTPMiddleware`, which runs what
            is inside it in a task of its own, lies between.
        unavailable: What a client is told while the storage is: ``"503"``, or ``"raise"`` to have
            `StorageUnavailable` raised for the application's own error handlers.

    Raises:
        InvalidArgument: If an argument is out of its range, or no browser would keep such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        app: ASGIApp,
        storage: ManagedSessionStorage,
        session_cookie: str = "session",
        max_age: Duration | None = 14 * 24 * 60 * 60,
        path: str = "/",
        same_site: SameSite = "lax",
        https_only: bool | None = None,
        domain: str | None = None,
        partitioned: bool = False,
        *,
        secret_key: object = None,
        absolute_timeout: Duration | None = None,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        eager: bool | None = None,
        unavailable: str = "503",
    ) -> None:
        if unavailable not in ("503", "raise"):
            raise InvalidArgument(f"unavailable must be '503' or 'raise', not {unavailable!r}")
        if secret_key is not None:
            logger.warning("SessionMiddleware needs no secret_key and ignores it: session ids are random")
        self.app = app
        self.cookie = Cookie(session_cookie, path, domain, same_site, https_only, partitioned)
        self.manager = SessionManager(
            storage,
            self.cookie,
            max_age=max_age,
            absolute_timeout=absolute_timeout,
            serializer=serializer,
            rotate_on_login=rotate_on_login,
        )
        self.eager = _splits_tasks(app) if eager is None else eager
        self.raises = unavailable == "raise"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        await _Request(self, scope, receive, send).serve()


class _Request:
    """One request on its way through the middleware."""

    def __init__(self, middleware: SessionMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.middleware = middleware
        self.manager = middleware.manager
        self.scope = scope
        self.receive = receive
        self.send = send
        self.https = scope.get("scheme") in ("https", "wss")
        self.began = False
        self.failed = False
        self.failure: StorageUnavailable | None = None
        self.awaiting = Awaiting()
        cookies = HTTPConnection(scope).cookies
        self.session = self.manager.open(cookies.get(middleware.cookie.name), self._load_now)
        scope["session"] = self.session
        scope["sqlsessions"] = self

    async def serve(self) -> None:
        try:
            if self.middleware.eager:
                await self.load()
            if self.session.loaded:
                await self._app()
            else:
                await self.awaiting.run(self._app())
            if not self.failed:
                await self._finish()
        except StorageUnavailable as error:
            if self.middleware.raises or error is not self.failure or self.began:
                raise
            await self._refuse(error)

    async def load(self) -> None:
        try:
            await self.manager.load(self.session)
        except StorageUnavailable as error:
            self.failure = error
            raise

    async def save(self) -> None:
        try:
            await self.manager.commit(self.session)
        except StorageUnavailable as error:
            self.failure = error
            raise

    async def _app(self) -> None:
        await self.middleware.app(self.scope, self.receive, self._send)

    def _load_now(self, _session: Session) -> None:
        """Read the session for a plain call that looks at it."""
        if self.awaiting.possible():
            self.awaiting.result(self.load())
            return
        try:
            anyio.from_thread.run(self.load)
        except RuntimeError:
            if self.session.loaded:
                return
            raise RuntimeError(
                "the session is not loaded, and cannot be from a task that the application started: "
                "`await load(request)` first, or give SessionMiddleware eager=True"
            ) from None

    async def _send(self, message: Message) -> None:
        if self.failed:
            return
        if not self.began and message["type"] in _BEGINS:
            try:
                await self.save()
            except StorageUnavailable as error:
                if self.middleware.raises:
                    raise
                await self._refuse(error)
                return
            self.began = True
            self._tell(message)
        elif not self.began and message["type"] == "websocket.close":
            await self.save()
        await self.send(message)

    async def _finish(self) -> None:
        """Write what changed after the response began; the browser can be told no more."""
        known = self.session.state.id
        with anyio.move_on_after(GRACE, shield=True):  # a server may cancel what serves a closed connection
            await self.save()
        if self.began and self.session.state.id not in (known, None):
            logger.warning("a session began, or got a new id, too late for its cookie to be sent")

    def _tell(self, message: Message) -> None:
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        if self.session.accessed:
            headers.add_vary_header("Cookie")
        cookie = self.manager.set_cookie(self.session, https=self.https)
        if cookie is not None:
            headers.append("Set-Cookie", cookie)
            headers.setdefault("Cache-Control", "no-store")
        elif self.session.accessed:
            headers.setdefault("Cache-Control", "private")

    async def _refuse(self, error: StorageUnavailable) -> None:
        self.failed = True
        logger.error("a session could not be read or written: %s", error)
        if self.scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
            return
        start: Message = {
            "type": "http.response.start",
            "status": 503,
            "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")],
        }
        self._tell(start)
        await self.send(start)
        await self.send({"type": "http.response.body", "body": _BODY})


async def load(connection: HTTPConnection) -> Session:
    """The session of a request or WebSocket, read if that was not done yet.

    Raises:
        StorageUnavailable: If it cannot be read.
    """
    request = _request(connection)
    await request.load()
    return request.session


async def save(connection: HTTPConnection) -> None:
    """Write the session now, as a WebSocket may want to; a new one's cookie goes with the response.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    await _request(connection).save()


async def list_sessions(connection: HTTPConnection) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    session = await load(connection)
    async for info in _request(connection).manager.listed(session):
        yield info


async def end_session(connection: HTTPConnection, key: str) -> bool:
    """End a session of the same subject, by the ``key`` that a list showed; whether there was one."""
    session = await load(connection)
    return await _request(connection).manager.end_listed(session, key)


async def end_other_sessions(connection: HTTPConnection) -> int:
    """End all sessions of the same subject but this one; how many they were."""
    session = await load(connection)
    return await _request(connection).manager.end_others(session)


def _request(connection: HTTPConnection) -> _Request:
    request = connection.scope.get("sqlsessions")
    if not isinstance(request, _Request):
        raise InvalidArgument("this request did not pass through sqlsessions' SessionMiddleware")
    return request


def _splits_tasks(app: Any) -> bool:
    """Whether a middleware inside runs the rest in another task."""
    while app is not None:
        if isinstance(app, BaseHTTPMiddleware):
            return True
        app = getattr(app, "app", None)
    return False
