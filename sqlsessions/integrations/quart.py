"""Sessions for Quart: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar, cast

import quart
from quart.sessions import SessionInterface
from quart.wrappers.base import BaseRequestWebsocket

from ..errors import InvalidArgument, StorageUnavailable
from ..info import SessionInfo
from ._web.greenlets import GreenletBridge
from ._web.session import Session
from ._web.werkzeug import Interface, SqlSession, logger

__all__ = [
    "SqlSession",
    "SqlSessionInterface",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "save",
]

R = TypeVar("R")

GRACE = 10.0  # seconds that a write may take after a WebSocket's client has gone
_LOADER = "sqlsessions.loader"  # the key of a request's scope


class SqlSessionInterface(Interface, SessionInterface):
    """Keeps an application's sessions in a storage: ``SqlSessionInterface(storage).init_app(app)``.

    ``quart.session`` is then a `SqlSession`: a dict that is read when first looked at, and written, if it
    changed, with the response. A request that never looks at it costs nothing. Without ``init_app``, with
    ``app.session_interface = SqlSessionInterface(storage)``, it is read before the handler is called
    whenever there is a cookie.

    For its arguments see `Interface`, which Flask and Quart share.
    """

    def init_app(self, app: quart.Quart) -> None:
        """Be the session interface of an application, one that reads a session when it is looked at.

        Raises:
            InvalidArgument: If no browser would keep the cookie that the application configures.
        """
        self.manager_of(app.config)
        app.session_interface = self  # type: ignore[assignment]  # inferred from the default
        for name in ("handle_request", "handle_websocket"):
            setattr(app, name, _lazily(getattr(app, name)))

    async def open_session(self, app: quart.Quart, request: BaseRequestWebsocket) -> SqlSession:
        """The session of a request."""
        scope: dict[str, Any] = cast(Any, request.scope)
        loader: _Loader = scope.get(_LOADER) or _Loader()
        loader.interface = self
        session = self.session_of(app, request, loader)
        loader.session = session
        if not loader.lazy:
            try:
                await session.manager.load(session)
            except StorageUnavailable as error:
                loader.failure = error  # raised where the handler looks at the session
        return session

    async def save_session(self, app: quart.Quart, session: Any, response: Any) -> None:  # noqa: ARG002
        """Write what changed, and have the browser told, which after a WebSocket is not possible."""
        if not isinstance(session, SqlSession):
            return
        known = session.state.id
        try:
            await session.manager.commit(session)
        except StorageUnavailable as error:
            if response is None:
                raise
            self.refuse(response, error)
        if response is not None:
            self.tell(session, response)
        elif session.state.id not in (known, None):
            logger.warning("a session began, or got a new id, in a WebSocket, which has no cookie to set")


class _Loader:
    """Reads the session of one request for a plain call that looks at it.

    Attributes:
        lazy: Whether the request's handler runs within `run`.
    """

    interface: Interface
    session: SqlSession | None = None
    failure: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._bridge = GreenletBridge()
        self._loop = asyncio.get_running_loop()
        self.lazy = False

    async def run(self, handling: Coroutine[Any, Any, R]) -> R:
        self.lazy = True
        return await self._bridge.run(handling)

    def __call__(self, session: Session) -> None:
        if self.failure is None:
            try:
                self._load(session)
            except StorageUnavailable as error:
                self.failure = error
        if self.failure is not None:
            raise self.interface.unavailable(self.failure) from self.failure

    def _load(self, session: Session) -> None:
        assert isinstance(session, SqlSession)
        if self._bridge.possible():
            self._bridge.result(session.manager.load(session))
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # in the thread of a handler that is no coroutine
            asyncio.run_coroutine_threadsafe(session.manager.load(session), self._loop).result()
            return
        raise RuntimeError(
            "the session is not loaded, and cannot be from a task that the application started: "
            "`await load()` before that"
        )


def _lazily(handle: Callable[[Any], Coroutine[Any, Any, R]]) -> Callable[[Any], Coroutine[Any, Any, R]]:
    """Have a request handled so that its session can be read when it is looked at."""

    async def handling(request: BaseRequestWebsocket) -> R:
        loader = cast(Any, request.scope)[_LOADER] = _Loader()
        try:
            return await loader.run(handle(request))
        except asyncio.CancelledError:
            if loader.session is not None and request.scope["type"] == "websocket":
                await _finish(loader.session)
            raise

    return handling


async def _finish(session: SqlSession) -> None:
    """Write the session of a WebSocket whose client has gone, which cancels its handler."""
    saving = asyncio.ensure_future(session.manager.commit(session))
    done, _ = await asyncio.wait([saving], timeout=GRACE)
    for task in done:
        if (error := task.exception()) is not None:
            logger.error("a session could not be written: %s", error)


async def load() -> SqlSession:
    """The session of the current request or WebSocket, read if that was not done yet.

    Raises:
        ServiceUnavailable: If it cannot be read; or `StorageUnavailable`, as the interface was told.
    """
    session = _current()
    try:
        await session.manager.load(session)
    except StorageUnavailable as error:
        interface = quart.current_app.session_interface
        assert isinstance(interface, Interface)
        raise interface.unavailable(error) from error
    return session


async def save() -> None:
    """Write the session now, as a WebSocket may want to.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    session = _current()
    await session.manager.commit(session)


async def list_sessions() -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    session = await load()
    async for info in session.manager.listed(session):
        yield info


async def end_session(key: str) -> bool:
    """End a session of the same subject, by the ``key`` that a list showed; whether there was one."""
    session = await load()
    return await session.manager.end_listed(session, key)


async def end_other_sessions() -> int:
    """End all sessions of the same subject but this one; how many they were."""
    session = await load()
    return await session.manager.end_others(session)


def _current() -> SqlSession:
    session = quart.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    return session
