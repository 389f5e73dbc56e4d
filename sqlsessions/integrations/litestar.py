"""Sessions for Litestar: `SessionConfig`, and `LitestarStore` for everything else that it stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument, ReauthenticationRequired, StorageUnavailable, missing

try:
    from litestar.connection import ASGIConnection
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.litestar", "litestar") from error
from litestar.enums import ScopeType
from litestar.exceptions import NotAuthorizedException
from litestar.middleware import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend
from litestar.middleware.session.base import SessionMiddleware as LitestarSessionMiddleware
from litestar.security.session_auth.middleware import MiddlewareWrapper as SessionAuthMiddleware
from litestar.types import Message, Receive, Scope, Scopes, Send
from litestar.utils.scope.state import ScopeState

from ..storage import DEFAULT, Default, Duration, ManagedSessionStorage
from ._litestar_models import SessionModel, resolves_in_tasks
from ._litestar_replacing import replace_session
from ._litestar_store import LitestarStore
from ._web import connections
from ._web.asgi import RequestSession, cookies_of, is_https, open_request
from ._web.changing import Data
from ._web.clients import ClientInfo, ClientRequest, address_and_user_agent
from ._web.connections import (
    HasScope,
    alive,
    change,
    current_session,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    own_of,
    refresh,
    save,
)
from ._web.cookies import Cookie, SameSite, default_name
from ._web.freshness import STATUS, challenge
from ._web.manager import SessionManager
from ._web.queues import request_queue
from ._web.serializers import Serializer
from ._web.session import Session
from ._web.subject_keys import SubjectKey
from ._web.timeouts import Timeouts
from ._web.transports import Bearer, checked_transports
from ._web.unavailable import Unavailable, is_raised

__all__ = [
    "Bearer",
    "ClientRequest",
    "Cookie",
    "LitestarStore",
    "Session",
    "SessionBackend",
    "SessionConfig",
    "SessionMiddleware",
    "SessionModel",
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

ID_BYTES = 32
_SERVER_ERROR = 500
_CLOSED_BY_ERROR = 4500  # with which Litestar closes a WebSocket whose handler raised


class SessionBackend(BaseSessionBackend["SessionConfig"]):
    """The backend of a `SessionConfig`, for Litestar's `SessionAuth` and test clients."""

    def get_session_id(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
        """The session id that a connection presents, if it could be one of ours."""
        return self._open(connection).state.from_cookie

    def _open(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Session:
        manager = self.config.manager
        if cookies_of(connection.scope, manager.cookie.name) or manager.transports is not None:
            return open_request(manager, connection.scope)
        # Litestar's test client gives cookies without headers.
        return manager.open(connection.cookies.get(manager.cookie.name))

    async def load_from_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> dict[str, Any]:
        """The session of a connection's cookie."""
        session = self._open(connection)
        await self.config.manager.load(session)
        return session

    async def store_in_message(
        self, scope_session: Any, message: Message, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> None:
        """Write a session, and its cookie into a message."""
        manager = self.config.manager
        session = self._open(connection)
        await replace_session(manager, session, scope_session, connection.scope)
        await manager.commit(session)
        given = manager.headers.of_id(session, https=is_https(connection.scope))
        if given is not None:
            headers: Any = message.setdefault("headers", [])  # type: ignore[typeddict-item]
            headers.append((given[0].lower().encode(), given[1].encode("latin-1")))


@dataclass
class SessionConfig(BaseBackendConfig[SessionBackend]):
    """Server-side sessions in place of Litestar's own: put ``config.middleware`` into an application.

    ``request.session`` is a `Session`: a dict that is read when first accessed, and written, if it
    changed, before the response begins. A request that does not access it makes no call of the storage.
    It also serves as ``session_backend_config`` of Litestar's `SessionAuth`. A field that is assigned to takes
    effect with the next request, but ``scopes``, ``exclude`` and ``exclude_opt_key``, which Litestar reads when
    the application is made.

    Args:
        storage: The storage of the sessions; close it yourself, as by ``on_shutdown=[storage.aclose]``.
        key: Name of the cookie; None, the default, is ``"session"``, or ``"__Host-session"`` with
            ``secure=True`` unless a path or domain is set. The prefix ``__Host-`` is the safest.
        ttl: Seconds after its last use that a session ends, and age of the cookie; None is never. DEFAULT is
            the storage's own timeout.
        scopes: The kinds of connections that have sessions: HTTP and WebSockets, unless set.
        path: Path of the cookie.
        domain: Domain of the cookie; None is only the host that set it.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default, for requests that
            came by https.
        samesite: ``"lax"``, ``"strict"`` or ``"none"``.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS).
        exclude: Pattern or patterns of paths without sessions.
        exclude_opt_key: Name of the ``opt`` with which a route handler has no sessions.
        absolute_timeout: Seconds after its creation that a session ends however much it is used.
        serializer: Encodes the data: an object with ``dumps`` and ``loads``. JSON unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        renew_on_access: Whether a request that only reads a session extends it.
        eager: Whether to read the session before the handler is called, if there is a cookie. False
            reads it when first accessed, which works in the request's own task and in worker
            threads; None, the default, is True for handlers with several dependencies, which Litestar
            resolves in tasks of their own.
        unavailable: How requests are answered while the storage is unavailable: ``"503"``, or ``"raise"``
            to raise `StorageUnavailable` for the application's own exception handlers.
        expire_at_browser_close: Whether the cookie ends when the browser is closed.
        max_age: Deprecated: the former name of ``ttl``. None is ``expire_at_browser_close=True``.
        serialize: Whether the HTTP requests of one session wait for each other in this process, from their
            first access to the session until their response begins. True waits for up to 10 seconds, a number
            for so many; then the session counts as unavailable.
        transports: Where a request may present its session id, and how a response gives one: `Cookie` and
            `Bearer`, in the order of precedence. The settings of the cookie are then those of its `Cookie`. None
            is the cookie alone.
        subject_key: For code that logs a user in by a key of the session alone: the key, or a function of the
            data, which names the user or None. A change of it is a login or a logout.
        anonymous_ttl: Idle timeout of sessions without a subject, those of guests; a login gives them ``ttl``.
            DEFAULT is ``ttl``.
        client_info: Gives what each write keeps of the client: such as ``address_and_user_agent``. None keeps nothing.
        httponly: True only: scripts do not need a session id.
        session_id_bytes: 32 only: ids have 256 random bits.
        store: None only: Litestar's own sessions name a store here; for these, give ``storage``.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    _backend_class = SessionBackend
    _default_key = None

    storage: ManagedSessionStorage = field(default=None, repr=False)  # type: ignore[assignment]  # required
    key: str = None  # type: ignore[assignment]  # a str once it is made
    max_age: Duration | Default | None = DEFAULT  # type: ignore[assignment]
    scopes: Scopes = field(default_factory=lambda: {ScopeType.HTTP, ScopeType.WEBSOCKET})
    path: str = "/"
    domain: str | None = None
    secure: bool | None = None  # type: ignore[assignment]
    samesite: SameSite = "lax"  # type: ignore[assignment]
    partitioned: bool = False
    exclude: str | list[str] | None = None
    exclude_opt_key: str = "skip_session"
    absolute_timeout: Duration | None = None
    serializer: Serializer | None = field(default=None, repr=False)
    rotate_on_login: bool = True
    eager: bool | None = None
    unavailable: Unavailable = "503"
    renew_on_access: bool = True
    httponly: bool = True
    session_id_bytes: int = ID_BYTES
    store: None = None
    serialize: bool | Duration = False
    ttl: Duration | Default | None = DEFAULT
    expire_at_browser_close: bool = False
    transports: Sequence[Cookie | Bearer] | None = None
    subject_key: SubjectKey | None = None
    anonymous_ttl: Duration | Default | None = DEFAULT
    client_info: ClientInfo | None = None

    def __post_init__(self) -> None:
        """Check the arguments, and make of them what serves requests."""
        if self.store is not None:
            raise InvalidArgument("SessionConfig has no store: give it a storage, SessionConfig(storage)")
        if not self.httponly:
            raise InvalidArgument("httponly must be True: scripts do not need a session id")
        if self.session_id_bytes != ID_BYTES:
            raise InvalidArgument(f"session_id_bytes must be {ID_BYTES}: ids have 256 random bits")
        if self.key in (None, self._default_key):
            self._default_key = default_name(
                "session", path=self.path, domain=self.domain, secure=self.secure
            )
            super().__setattr__("key", self._default_key)
        self.raises = is_raised(self.unavailable)
        self.queue = request_queue(self.serialize)
        cookie = Cookie(self.key, self.path, self.domain, self.samesite, self.secure, self.partitioned)
        cookie, found = checked_transports(self.transports, cookie, is_set=cookie != Cookie())
        if self.transports is not None:  # Litestar's SessionAuth and test client go by the key
            self._default_key = cookie.name
            super().__setattr__("key", cookie.name)
        self.manager = SessionManager(
            self.storage,
            cookie,
            transports=found,
            timeouts=Timeouts.checked(
                self.ttl,
                self.absolute_timeout,
                expire_at_browser_close=self.expire_at_browser_close,
                max_age=self.max_age,
                anonymous_ttl=self.anonymous_ttl,
            ),
            serializer=self.serializer,
            rotate_on_login=self.rotate_on_login,
            subject_key=self.subject_key,
            client_info=self.client_info,
            refresh=self.renew_on_access,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; one that was set before is checked and takes effect, or stays as it was."""
        before = getattr(self, name, None)
        super().__setattr__(name, value)
        if "manager" in vars(self) and name in type(self).__dataclass_fields__:
            try:
                self.__post_init__()
            except Exception:
                super().__setattr__(name, before)
                raise

    @property
    def middleware(self) -> DefineMiddleware:
        """The middleware, to put into the ``middleware`` of an application, router or handler."""
        return DefineMiddleware(SessionMiddleware, backend=SessionBackend(self))


class SessionMiddleware(LitestarSessionMiddleware[SessionBackend]):
    """The middleware that `SessionConfig.middleware` makes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        config = self.backend.config
        await _RequestSession(
            self.app,
            scope,
            receive,
            send,
            manager=config.manager,
            eager=resolves_in_tasks(scope) if config.eager is None else config.eager,
            raises=config.raises,
            queue=config.queue,
        ).serve()


class _RequestSession(RequestSession):
    """Supports assignments to ``scope["session"]``, and Litestar's handling of errors."""

    def __init__(self, app: Any, scope: Any, receive: Any, send: Any, **options: Any) -> None:
        super().__init__(app, scope, receive, send, **options)
        self._litestar_app = scope["litestar_app"]
        self.demand: ReauthenticationRequired | None = None  # that `require_fresh` has raised

    async def change(self, function: Callable[[Data], Any]) -> Any:
        await self._take_over()
        return await super().change(function)

    async def _commit(self) -> None:
        await self._take_over()
        await super()._commit()

    async def _take_over(self) -> None:
        value = self.scope["session"]
        if value is not self.session and self._is_ours(self.scope):
            await replace_session(self.manager, self.session, value, self.scope)
            self.scope["session"] = self.session

    async def _send(self, message: Any) -> None:
        failure = self.failure
        if isinstance(failure, StorageUnavailable) and self._answers_failure(message):
            await self._refuse(failure)
            return
        if self.demand is not None and self._answers_demand(message):
            demand, self.demand = self.demand, None
            await self._demand_login(demand)
            self._refused = True  # what else Litestar answers is dropped
            return
        try:
            await super()._send(message)
        except Exception:
            if not self.began:
                # Litestar assumes that the response began, and would not answer the error.
                ScopeState.from_scope(self.scope).response_started = False  # type: ignore[arg-type]
            raise

    def _is_ours(self, scope: Any) -> bool:
        """Whether the handler assigns the session of this middleware.

        An application that is mounted may have session middleware of its own, of any kind.
        """
        handler = scope.get("route_handler")
        if handler is None:
            return True
        if getattr(handler, "is_mount", False):  # other ASGI than Litestar
            return False
        sessions = [each for each in map(_middleware_class, handler.resolve_middleware()) if each is not None]
        if scope["litestar_app"] is self._litestar_app:
            return issubclass(sessions[0], SessionMiddleware) if sessions else True  # the innermost
        return not sessions

    def _answers_failure(self, message: Any) -> bool:
        """Whether a message is Litestar's answer to an error that no handler of the application took."""
        by_litestar = message.get("status") == _SERVER_ERROR or message.get("code") == _CLOSED_BY_ERROR
        return by_litestar and not (self.raises or self.began or self._refused)

    def _answers_demand(self, message: Any) -> bool:
        """Whether a message is Litestar's answer to `require_fresh` that no handler of the application took."""
        if message.get("status") != STATUS or self.began:
            return False
        handlers = self.scope["route_handler"].resolve_exception_handlers()
        taken = (key == STATUS or (isinstance(key, type) and issubclass(_Demand, key)) for key in handlers)
        return not any(taken)


class _Demand(ReauthenticationRequired, NotAuthorizedException):
    """What `require_fresh` raises, for handlers of either."""

    def __init__(self, error: ReauthenticationRequired, headers: dict[str, str]) -> None:
        NotAuthorizedException.__init__(self, detail=str(error), headers=headers)
        self.max_age = error.max_age

    def __str__(self) -> str:
        return self.detail


async def require_fresh(connection: HasScope, max_age: Duration) -> Session:
    """The session of a request or WebSocket, for what needs a recent login, such as a change of the password.

    Otherwise the answer has status 401, and says why as ``application/problem+json`` (RFC 9457), unless the
    application has an exception handler for it. Show a form for the password, and call
    ``session.reauthenticated()``.

    Args:
        connection: The request or WebSocket.
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        ReauthenticationRequired: If the user did not log in since, or nobody is logged in; it is a
            `NotAuthorizedException` of Litestar's too.
        StorageUnavailable: If the session cannot be read.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    try:
        return await connections.require_fresh(connection, max_age)
    except ReauthenticationRequired as error:
        own = own_of(connection)
        if isinstance(own, _RequestSession):
            own.demand = error
        raise _Demand(error, challenge(error, own.session)) from None


def _middleware_class(middleware: Any) -> type[Any] | None:
    """The class of a session middleware; None for any other."""
    made = middleware
    if isinstance(middleware, DefineMiddleware):
        made = middleware.middleware
        if made is SessionAuthMiddleware and isinstance(
            middleware.kwargs["config"].session_backend_config, SessionConfig
        ):
            return SessionMiddleware
    if isinstance(made, type) and issubclass(made, (LitestarSessionMiddleware, SessionAuthMiddleware)):
        return made
    return None
