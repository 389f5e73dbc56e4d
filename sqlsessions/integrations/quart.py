"""Sessions for Quart: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast, overload

from ..errors import InvalidArgument, StorageUnavailable, missing

try:
    import quart
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.quart", "quart") from error
from quart.sessions import SessionInterface
from quart.wrappers.base import BaseRequestWebsocket
from quart.wrappers.response import IterableBody, ResponseBody

from ..info import SessionInfo
from ..storage import Duration
from ._quart_loading import LOADER, Loader, with_loader
from ._web.alive import POLICY_VIOLATION, Alive
from ._web.changing import Data, apply
from ._web.clients import ClientRequest, address_and_user_agent
from ._web.cookies import Cookie
from ._web.endings import write_last
from ._web.models import StoredModel
from ._web.refreshing import require_kept
from ._web.transports import Bearer
from ._web.watching import PERIOD
from ._web.werkzeug import Interface, SqlSession

__all__ = [
    "Bearer",
    "ClientRequest",
    "Cookie",
    "SessionModel",
    "SqlSession",
    "SqlSessionInterface",
    "address_and_user_agent",
    "alive",
    "change",
    "current_session",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "refresh",
    "require_fresh",
    "save",
]

M = TypeVar("M")
R = TypeVar("R")

logger = logging.getLogger("sqlsessions")


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
            setattr(app, name, with_loader(getattr(app, name)))

    async def open_session(self, app: quart.Quart, request: BaseRequestWebsocket) -> SqlSession:
        """The session of a request."""
        scope: dict[str, Any] = cast(Any, request.scope)
        loader: Loader = scope.get(LOADER) or Loader()
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
            if isinstance(body := getattr(response, "response", None), IterableBody):
                session.state.accessed_since = False
                response.response = _Body(body, session)
        elif session.state.id not in (known, None):
            logger.warning("a session began, or got a new id, in a WebSocket, which cannot set its cookie")


class _Body(ResponseBody):
    """The body of a stream, at whose end the session is written if the stream used it."""

    def __init__(self, body: ResponseBody, session: SqlSession) -> None:
        self._body: Any = body
        self._session = session

    async def __aenter__(self) -> AsyncIterable[Any]:
        entered: AsyncIterable[Any] = await self._body.__aenter__()
        return entered

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._body.__aexit__(*error)
        finally:
            state = self._session.state
            if state.accessed_since or state.sources:
                state.answered = True
                await write_last(self._session.manager.commit(self._session))


def current_session() -> SqlSession:
    """``quart.session``, typed: the session of the current request, read when it is first accessed.

    Raises:
        InvalidArgument: If the application has another session interface.
    """
    return _current()


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


class SessionModel(StoredModel[M]):
    """Part of the session as a model: ``await carts()``, where ``carts = SessionModel(Cart)``.

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

    async def __call__(self) -> M:
        """The model of the current request or WebSocket.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            ServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        """
        return self._give(await load())

    @overload
    async def change(self, function: Callable[[M], Awaitable[R]]) -> R: ...

    @overload
    async def change(self, function: Callable[[M], R]) -> R: ...

    async def change(self, function: Callable[[M], Any]) -> Any:
        """Change the model as it is stored now: `change`, of which the function gets the model.

        Models that were given before stay as they are.

        Raises:
            SessionModelMismatch: If the model does not accept the session's data, unless set otherwise.
            SessionNotFound: As `change`.
            ServiceUnavailable: As `change`.
        """
        return await change(self._changing(function))


async def save() -> None:
    """Write the session now, such as during a WebSocket.

    Raises:
        SessionNotFound: If the session ended, or another user has it, so that its changes cannot be kept.
        StorageUnavailable: If it cannot be written.
    """
    session = _current()
    session.state.lost = False
    await session.manager.commit(session)
    require_kept(session)


async def refresh() -> SqlSession:
    """Read the session again, such as during a WebSocket; what was changed is written first.

    A session that got a new id, and has the same subject, is followed. If it ended or expired, or another user has
    it, it is empty afterwards and its ``ended`` is True.

    Returns:
        The session, as it is stored now.

    Raises:
        ServiceUnavailable: If it cannot be read; or `StorageUnavailable`, as configured.
    """
    session = await load()
    try:
        await session.manager.refresh(session)
    except StorageUnavailable as error:
        raise _unavailable(error) from error
    return session


def alive(*, every: Duration = PERIOD, code: int = POLICY_VIOLATION) -> Alive:
    """A block that is left as soon as the session has ended, for WebSockets and long responses.

    ``async with alive():`` runs until its body ends, or the session is ended or revoked, expires, or belongs to
    another subject. The body is then cancelled, as by `asyncio.timeout`, and a WebSocket is closed; a streamed
    response ends; before a response began, `SessionNotFound` is raised. The session is looked after by one task
    for all connections. Without a session, nothing happens.

    Args:
        every: Seconds, or a timedelta, after which the storage is asked again whether the session lives. Of
            several connections the shortest counts.
        code: The code with which a WebSocket is closed.

    Returns:
        An async context manager; its ``ended`` tells whether the session has ended.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidArgumentType: If an argument is of the wrong type.
        ServiceUnavailable: On entering it, if the session cannot be read; or `StorageUnavailable`, as configured.
    """
    close = quart.websocket.close if quart.has_websocket_context() else None
    session = _current()
    storage, state = session.manager.storage, session.state
    return Alive(load, storage, close, lambda: state.answered, every=every, code=code)


async def require_fresh(max_age: Duration) -> SqlSession:
    """The session of the current request or WebSocket, for what needs a recent login, such as a change of the password.

    Otherwise the answer has status 401, and says why as ``application/problem+json`` (RFC 9457). Show a form for the
    password, and call ``session.reauthenticated()``.

    Args:
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        Unauthorized: If the user did not log in since, or nobody is logged in; its cause is
            `ReauthenticationRequired`.
        ServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    session = await load()
    Interface.require_fresh(session, max_age)
    return session


async def list_sessions() -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first; none if it has no subject."""
    session = await load()
    async for info in session.manager.listing.of(session):
        yield info


async def end_session(key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    session = await load()
    return await session.manager.listing.end(session, key)


async def end_other_sessions() -> int:
    """End all sessions of the same subject but this one; the number of them."""
    session = await load()
    return await session.manager.listing.end_others(session)


def _unavailable(error: StorageUnavailable) -> Exception:
    interface = quart.current_app.session_interface
    assert isinstance(interface, Interface)
    return interface.unavailable(error)


def _current() -> SqlSession:
    session = quart.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    return session
