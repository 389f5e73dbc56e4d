"""A request on its way through an ASGI middleware, and helpers that take one; no framework is named here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

import anyio

from ...errors import InvalidArgument, StorageUnavailable
from ...info import SessionInfo
from .greenlets import GreenletBridge
from .manager import SessionManager
from .session import Session

logger = logging.getLogger("sqlsessions")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
Header = tuple[bytes, bytes]
_SCOPE_KEY = "sqlsessions"
_BEGINS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_BODY = b"The session storage is unavailable. Try again later."
_GRACE = 10.0  # seconds for a last write
_TRY_AGAIN_LATER = 1013  # https://www.iana.org/assignments/websocket


class RequestSession:
    """A request or WebSocket on its way through a session middleware.

    Args:
        app: What is inside the middleware.
        scope: The ASGI scope; gets ``session``.
        receive: The ASGI receive function.
        send: The ASGI send function.
        manager: Loads and writes the session.
        cookie: Value of the session cookie that it came with.
        eager: Whether to load before the application is called.
        raises: Whether an unavailable storage is the application's to handle.
    """

    def __init__(
        self,
        app: App,
        scope: Any,
        receive: Receive,
        send: Send,
        *,
        manager: SessionManager,
        cookie: str | None,
        eager: bool,
        raises: bool,
    ) -> None:
        self.app = app
        self.scope: MutableMapping[str, Any] = scope
        self.receive = receive
        self.send = send
        self.manager = manager
        self.eager = eager
        self.raises = raises
        self.https = scope.get("scheme") in ("https", "wss")
        self.failure: Exception | None = None  # of reading or writing the session, if the last try failed
        self.began = False
        self._unwritten = self._refused = False
        self._bridge = GreenletBridge()
        self.session = manager.open(cookie, self._load_now)
        self._known = self.session.state.presented
        scope["session"] = self.session
        scope[_SCOPE_KEY] = self

    @property
    def innermost(self) -> bool:
        """Whether no other session middleware lies between this one and the application."""
        return self.scope.get(_SCOPE_KEY) is self

    async def serve(self) -> None:
        """Have the application answer, and the session written."""
        try:
            if self.eager:
                await self.load()
            if self.session.loaded:
                await self._answered()
            else:
                self._loop = asyncio.get_running_loop()
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
        """Leave no reference cycles, which would have the garbage collector run every few requests."""
        self.session.detach()
        self.failure = None
        if self.innermost:
            del self.scope[_SCOPE_KEY]

    async def load(self) -> None:
        """Read the session, unless that was done."""
        try:
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

    async def _answered(self) -> None:
        await self.app(self.scope, self.receive, self._send)

    async def _commit(self) -> None:
        await self.manager.commit(self.session)

    def _load_now(self, _session: Session) -> None:
        """Read the session for a plain call that looks at it."""
        if self._bridge.possible():
            self._bridge.result(self.load())
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a worker thread, which may wait for the event loop
            asyncio.run_coroutine_threadsafe(self.load(), self._loop).result()
            return
        raise RuntimeError(
            "the session is not loaded, and cannot be from a task that the application started: "
            "`await load(request)` first, or set eager=True"
        )

    async def _send(self, message: Any) -> None:
        if self._refused:
            return
        begins = message["type"] in _BEGINS
        if not self.began and not self._unwritten and (begins or message["type"] == "websocket.close"):
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
            self.session.state.looked = False
            message = self._with_headers(message)
        await self.send(message)

    async def _finish(self) -> None:
        """Write what changed after the response began."""
        state = self.session.state
        if self.began and self.scope["type"] == "http" and not (state.looked or state.sources):
            return
        with anyio.move_on_after(_GRACE, shield=True):  # a server may cancel what serves a closed connection
            await self.save()
        told = self.manager.set_cookie(self.session, https=self.https) is None
        if self.began and not told and self.session.state.id not in (None, self._known):
            logger.warning(
                "a session got its id after the response began, too late for its cookie to be sent"
            )

    def _with_headers(self, message: Any) -> Any:
        """A message with the headers that the session needs; the old one, a response cache may keep."""
        old: list[Header] = list(message.get("headers") or ())
        new: list[Header] = []
        given = {key.lower(): value for key, value in old}
        if self.session.accessed and not (b"vary" in given and _varies(old)):
            new.append((b"vary", b"Cookie"))
        cookie = self.manager.set_cookie(self.session, https=self.https)
        self._known = self.session.state.id or self._known
        if cookie is not None:
            new.append((b"set-cookie", cookie.encode("latin-1")))
        if (cookie is not None or self.session.accessed) and b"cache-control" not in given:
            new.append((b"cache-control", b"private" if cookie is None else b"no-store"))
        return {**message, "headers": old + new}

    async def _refuse(self, error: Exception) -> None:
        self._refused = True
        logger.error("a session could not be read or written: %s", error)
        if self.scope["type"] == "websocket":
            await self.send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]
        # A rotation may have been done by then, and its cookie is the only way to the session.
        await self.send(
            self._with_headers({"type": "http.response.start", "status": 503, "headers": headers})
        )
        await self.send({"type": "http.response.body", "body": _BODY, "more_body": False})


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
    """Write the session now, as a WebSocket may want to; a new one's cookie goes with the response.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    await _own(connection).save()


async def list_sessions(connection: HasScope) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    session = await load(connection)
    async for info in _own(connection).manager.listed(session):
        yield info


async def end_session(connection: HasScope, key: str) -> bool:
    """End a session of the same subject, by the ``key`` that a list showed; whether there was one."""
    return await _own(connection).manager.end_listed(await load(connection), key)


async def end_other_sessions(connection: HasScope) -> int:
    """End all sessions of the same subject but this one; how many they were."""
    return await _own(connection).manager.end_others(await load(connection))


def _own(connection: HasScope) -> RequestSession:
    own = connection.scope.get(_SCOPE_KEY)
    if not isinstance(own, RequestSession):
        raise InvalidArgument("this request did not pass through sqlsessions' SessionMiddleware")
    return own


def _varies(headers: Iterable[Header]) -> bool:
    """Whether caches know by now that the response depends on the cookie."""
    return any(
        {b"cookie", b"*"} & {token.strip() for token in value.lower().split(b",")}
        for key, value in headers
        if key.lower() == b"vary"
    )
