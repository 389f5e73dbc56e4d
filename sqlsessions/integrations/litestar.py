"""Sessions for Litestar: `LitestarStore`, and `SessionConfig`, which makes the most of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend
from litestar.middleware.session.base import SessionMiddleware as LitestarSessionMiddleware
from litestar.serialization import decode_json, encode_json
from litestar.types import Empty, Message, Receive, Scope, Scopes, Send
from litestar.utils import get_serializer_from_scope
from litestar.utils.scope.state import ScopeState

from ..errors import InvalidArgument, InvalidArgumentType, StorageUnavailable
from ..storage import Duration, ManagedSessionStorage
from ._litestar_store import LitestarStore
from ._web.asgi import RequestSession, end_other_sessions, end_session, list_sessions, load, save
from ._web.cookies import Cookie, SameSite
from ._web.manager import SessionManager
from ._web.serializers import Serializer
from ._web.session import Session

__all__ = [
    "LitestarStore",
    "Session",
    "SessionBackend",
    "SessionConfig",
    "SessionMiddleware",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "save",
]

_SERVER_ERROR = 500
_CLOSED_BY_ERROR = 4500  # with which Litestar closes a WebSocket whose handler raised


class SessionBackend(BaseSessionBackend["SessionConfig"]):
    """What Litestar's `SessionAuth` and its test clients need of a `SessionConfig`."""

    def get_session_id(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
        """The value of the session cookie that a connection came with."""
        return connection.cookies.get(self.config.key)

    async def load_from_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> dict[str, Any]:
        """The session of a connection's cookie."""
        session = self.config.manager.open(self.get_session_id(connection))
        await self.config.manager.load(session)
        return session

    async def store_in_message(
        self, scope_session: Any, message: Message, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> None:
        """Write a session, and its cookie into a message."""
        manager = self.config.manager
        session = manager.open(self.get_session_id(connection))
        await _replace(manager, session, scope_session, connection.scope)
        await manager.commit(session)
        https = connection.scope.get("scheme") in ("https", "wss")
        if (cookie := manager.set_cookie(session, https=https)) is not None:
            headers: Any = message.setdefault("headers", [])  # type: ignore[typeddict-item]
            headers.append((b"set-cookie", cookie.encode("latin-1")))


@dataclass
class SessionConfig(BaseBackendConfig[SessionBackend]):
    """Server-side sessions in place of Litestar's own: put ``config.middleware`` into an application.

    ``request.session`` is a `Session`: a dict that is read when first looked at, and written, if it
    changed, before the response begins. A request that never looks at it costs nothing. It also serves
    as ``session_backend_config`` of Litestar's `SessionAuth`.

    Args:
        storage: Where sessions are; close it yourself, as by ``on_shutdown=[storage.aclose]``.
        key: Name of the cookie. The prefix ``__Host-`` is the safest.
        max_age: Seconds after its last use that a session ends, and age of the cookie. 14 days unless
            set; with None the browser forgets the cookie when closed, and the storage's own timeout
            holds.
        scopes: What it is for: HTTP and WebSockets, unless set.
        path: Path of the cookie.
        domain: Domain of the cookie; None is the host alone.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default, wherever the
            request came by https.
        samesite: ``"lax"``, ``"strict"`` or ``"none"``.
        partitioned: Whether the cookie is kept apart for each top-level site (CHIPS).
        exclude: Pattern or patterns of paths without sessions.
        exclude_opt_key: Name of the ``opt`` by which a route handler goes without.
        absolute_timeout: Seconds after its creation that a session ends however much it is used.
        serializer: Turns data into bytes: an object with ``dumps`` and ``loads``. JSON unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        eager: Whether to read the session before the handler is called, if there is a cookie. False
            reads it when first looked at, which works in the request's own task and in worker
            threads; None, the default, is True for handlers with several dependencies, which Litestar
            resolves in tasks of their own.
        unavailable: What a client is told while the storage is: ``"503"``, or ``"raise"`` to have
            `StorageUnavailable` raised for the application's own exception handlers.

    Attributes:
        httponly: True: no script needs to see the cookie.

    Raises:
        InvalidArgument: If an argument is out of its range, or no browser would keep such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    _backend_class = SessionBackend

    storage: ManagedSessionStorage = field(repr=False)
    key: str = "session"
    max_age: Duration | None = 14 * 24 * 60 * 60  # type: ignore[assignment]
    scopes: Scopes = field(default_factory=lambda: {ScopeType.HTTP, ScopeType.WEBSOCKET})
    path: str = "/"
    domain: str | None = None
    secure: bool | None = None  # type: ignore[assignment]
    samesite: SameSite = "lax"
    partitioned: bool = False
    exclude: str | list[str] | None = None
    exclude_opt_key: str = "skip_session"
    absolute_timeout: Duration | None = None
    serializer: Serializer | None = field(default=None, repr=False)
    rotate_on_login: bool = True
    eager: bool | None = None
    unavailable: Literal["503", "raise"] = "503"
    httponly: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.unavailable not in ("503", "raise"):
            raise InvalidArgument(f"unavailable must be '503' or 'raise', not {self.unavailable!r}")
        cookie = Cookie(self.key, self.path, self.domain, self.samesite, self.secure, self.partitioned)
        self.manager = SessionManager(
            self.storage,
            cookie,
            max_age=self.max_age,
            absolute_timeout=self.absolute_timeout,
            serializer=self.serializer,
            rotate_on_login=self.rotate_on_login,
        )

    @property
    def middleware(self) -> DefineMiddleware:
        """The middleware, to put into the ``middleware`` of an application, router or handler."""
        return DefineMiddleware(SessionMiddleware, backend=SessionBackend(self))


class SessionMiddleware(LitestarSessionMiddleware[SessionBackend]):
    """Gives requests their session: `SessionConfig.middleware` makes it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        config = self.backend.config
        await _RequestSession(
            self.app,
            scope,
            receive,
            send,
            manager=config.manager,
            cookie=self.backend.get_session_id(ASGIConnection(scope)),
            eager=_splits_tasks(scope) if config.eager is None else config.eager,
            raises=config.unavailable == "raise",
        ).serve()


class _RequestSession(RequestSession):
    """Follows what Litestar does to ``scope["session"]``, and how it handles errors."""

    async def _commit(self) -> None:
        value = self.scope["session"]
        if value is not self.session and self.innermost:
            await _replace(self.manager, self.session, value, self.scope)
            self.scope["session"] = self.session
        await super()._commit()

    async def _send(self, message: Any) -> None:
        if self._is_of_failure(message):
            assert self.failure is not None
            await self._refuse(self.failure)
            return
        try:
            await super()._send(message)
        except Exception:
            if not self.began:
                # Litestar takes the response for begun, and would not answer the error.
                ScopeState.from_scope(self.scope).response_started = False  # type: ignore[arg-type]
            raise

    def _is_of_failure(self, message: Any) -> bool:
        """Whether Litestar is about to answer an unavailable storage, which nobody handled."""
        return (
            isinstance(self.failure, StorageUnavailable)
            and not (self.raises or self.began or self._refused)
            and (message.get("status") == _SERVER_ERROR or message.get("code") == _CLOSED_BY_ERROR)
        )


async def _replace(manager: SessionManager, session: Session, value: Any, scope: Any) -> None:
    """Make a session what ``set_session`` or ``clear_session`` put in its place."""
    await manager.load(session)
    session.mark_accessed()
    data = _plain(value, scope)
    if not data or not session.keys() <= data.keys():  # else it is the old one with changes
        subject = session.subject if data else None
        session.clear()
        session.subject = subject
    session.update(data)


def _plain(value: Any, scope: Any) -> dict[str, Any]:
    """The data of a mapping, or of a model or dataclass."""
    if value is Empty or value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    decoded = decode_json(encode_json(value, get_serializer_from_scope(scope)))
    if not isinstance(decoded, dict):
        raise InvalidArgumentType(f"set_session takes a dict, a model or Empty, not {type(value).__name__}")
    return decoded


def _splits_tasks(scope: Scope) -> bool:
    """Whether the handler has dependencies that are resolved in tasks of their own."""
    handler = scope.get("route_handler")
    return handler is not None and len(handler.resolve_dependencies()) > 1
