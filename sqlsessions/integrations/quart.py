"""Sessions for Quart: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast, overload

import quart
from quart.sessions import SessionInterface
from quart.wrappers.base import BaseRequestWebsocket

from .._tasks import wait_although_cancelled
from ..errors import InvalidArgument, StorageUnavailable
from ..info import SessionInfo
from ._web.changing import Data, apply
from ._web.greenlets import GreenletBridge
from ._web.session import Session
from ._web.werkzeug import Interface, SqlSession

__all__ = [
    "SqlSession",
    "SqlSessionInterface",
    "change",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "save",
]

R = TypeVar("R")

logger = logging.getLogger("sqlsessions")

_LOADER = "sqlsessions.loader"  # the key of a request's scope


class SqlSessionInterface(Interface, SessionInterface):
    """Stores the sessions of an application: ``SqlSessionInterface(storage).init_app(app)``.

    ``quart.session`` is then a `SqlSession`: a dict that is read when first accessed, and written, if it
    changed, with the response. A request that does not access it makes no call of the storage. Without ``init_app``, with
    ``app.session_interface = SqlSessionInterface(storage)``, it is read before the handler is called
    whenever there is a cookie.

    For its arguments see `Interface`, which Flask and Quart share.
    """

    def init_app(self, app: quart.Quart) -> None:
        """Make this the session interface of an application, and read sessions when they are accessed.

        Raises:
            InvalidArgument: If browsers would reject the cookie that the application configures.
        """
        self.manager_of(app.config)
        app.session_interface = self  # type: ignore[assignment]  # inferred from the default
        for name in ("handle_request", "handle_websocket"):
            setattr(app, name, _with_loader(getattr(app, name)))

    async def open_session(self, app: quart.Quart, request: BaseRequestWebsocket) -> SqlSession:
        """The session of a request."""
        scope: dict[str, Any] = cast(Any, request.scope)
        loader: _Loader = scope.get(_LOADER) or _Loader()
        loader.interface = self
        session = self.session_of(app, request, loader)
        loader.session = session
        if request.scope["type"] == "websocket":
            session.queue = None
            session.state.answered = True
        elif session.queue is not None and not loader.lazy:
            raise InvalidArgument("serialize needs SqlSessionInterface(...).init_app(app)")
        if not loader.lazy:
            try:
                await session.manager.load(session)
            except StorageUnavailable as error:
                loader.failure = error  # raised where the handler accesses the session
        return session

    async def save_session(self, app: quart.Quart, session: Any, response: Any) -> None:  # noqa: ARG002
        """Write what changed, and add the headers that the session needs; a WebSocket has none."""
        if not isinstance(session, SqlSession):
            return
        known = session.state.id
        session.state.answered = response is None
        try:
            await session.manager.commit(session)
        except StorageUnavailable as error:
            if response is None:
                raise
            self.refuse(response, error)
        if response is not None:
            self.add_headers(session, response)
            session.leave()
        elif session.state.id not in (known, None):
            logger.warning("a session began, or got a new id, in a WebSocket, which cannot set its cookie")


class _Loader:
    """Reads the session of one request when a plain call accesses it.

    Attributes:
        interface: The session interface of the application.
        session: The session, once it was opened.
        failure: Why it could not be read.
        lazy: Whether the handler of the request runs within `run`.
    """

    interface: Interface
    session: SqlSession | None = None
    failure: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._bridge = GreenletBridge("`await load()` before that")
        self.lazy = False

    async def run(self, handling: Coroutine[Any, Any, R]) -> R:
        self.lazy = True
        return await self._bridge.run(handling)

    def __call__(self, session: Session) -> None:
        assert isinstance(session, SqlSession)
        if self.failure is None:
            try:
                self._bridge.wait(session.manager, session.read)
            except StorageUnavailable as error:
                self.failure = error
        if self.failure is not None:
            raise self.interface.unavailable(self.failure) from self.failure


def _with_loader(handle: Callable[[Any], Coroutine[Any, Any, R]]) -> Callable[[Any], Coroutine[Any, Any, R]]:
    """Handle requests so that their sessions can be read when they are accessed."""

    async def handling(request: BaseRequestWebsocket) -> R:
        loader = cast(Any, request.scope)[_LOADER] = _Loader()
        try:
            return await loader.run(handle(request))
        except asyncio.CancelledError:
            if loader.session is not None and request.scope["type"] == "websocket":
                await _save_last(loader.session)
            raise
        finally:
            if loader.session is not None:
                loader.session.leave()

    return handling


async def _save_last(session: SqlSession) -> None:
    """Write the session of a WebSocket whose handler was cancelled, as its client disconnected."""
    saving = asyncio.ensure_future(session.manager.commit(session))
    await wait_although_cancelled(saving)
    if saving.done() and not saving.cancelled() and (error := saving.exception()) is not None:
        logger.error("a session could not be written: %s", error)


async def load() -> SqlSession:
    """The session of the current request or WebSocket, read if that was not done yet.

    Raises:
        ServiceUnavailable: If it cannot be read; or `StorageUnavailable`, as configured.
    """
    session = _current()
    try:
        await session.read()
    except StorageUnavailable as error:
        raise _unavailable(error) from error
    return session


@overload
async def change(function: Callable[[Data], Awaitable[R]]) -> R: ...


@overload
async def change(function: Callable[[Data], R]) -> R: ...


async def change(function: Callable[[Data], Any]) -> Any:
    """Change the session as it is stored now, such as a counter that parallel requests increase.

    The function changes a dict that has the data as it is stored. If another request writes the session
    meanwhile, it is called again, so that it must do nothing else; of its calls one takes effect. What this
    request changed before is written first. Without a session, one is begun.

    Args:
        function: The function, which may be async.

    Returns:
        What the function returned.

    Raises:
        SessionNotFound: If the session ended meanwhile, or another user has it; nothing was changed.
        ServiceUnavailable: If it cannot be read or written, or others use it for more than ten seconds; or
            `StorageUnavailable`, as configured.
        InvalidArgument: If it is called by such a function.
    """
    fresh = not _current().loaded
    session = await load()
    try:
        return await apply(session.manager.changing.attempts(session, fresh=fresh), function)
    except StorageUnavailable as error:
        raise _unavailable(error) from error


async def save() -> None:
    """Write the session now, such as during a WebSocket.

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
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    session = await load()
    return await session.manager.end_listed(session, key)


async def end_other_sessions() -> int:
    """End all sessions of the same subject but this one; the number of them."""
    session = await load()
    return await session.manager.end_others(session)


def _unavailable(error: StorageUnavailable) -> Exception:
    interface = quart.current_app.session_interface
    assert isinstance(interface, Interface)
    return interface.unavailable(error)


def _current() -> SqlSession:
    session = quart.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    return session
