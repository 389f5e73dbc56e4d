"""Sessions for Starlette and FastAPI: `SessionMiddleware`, and helpers that take a request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from ..errors import missing

try:
    from starlette.middleware.base import BaseHTTPMiddleware
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.starlette", "starlette") from error
from starlette.types import ASGIApp, Receive, Scope, Send

from ..storage import DEFAULT, Default, Duration, ManagedSessionStorage
from ._web.asgi import RequestSession
from ._web.clients import ClientInfo, ClientRequest, address_and_user_agent
from ._web.connections import (
    ConnectionModel,
    HasScope,
    alive,
    change,
    current_session,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    refresh,
    require_fresh,
    save,
)
from ._web.cookies import Cookie, SameSite
from ._web.manager import SessionManager
from ._web.queues import request_queue
from ._web.serializers import Serializer
from ._web.session import Session
from ._web.subject_keys import SubjectKey
from ._web.timeouts import Timeouts
from ._web.transports import Bearer, checked_transports
from ._web.unavailable import is_raised

__all__ = [
    "Bearer",
    "ClientRequest",
    "Cookie",
    "Session",
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

M = TypeVar("M")

logger = logging.getLogger("sqlsessions")

_SHORTEST = 1e-6  # seconds


class SessionMiddleware:
    """Server-side sessions in place of Starlette's own middleware of this name.

    ``request.session`` is a `Session`: a dict that is read when first accessed, and written, if it
    changed, before the response begins. A request that does not access it makes no call of the storage.

    Args:
        app: The application.
        storage: The storage of the sessions; the middleware does not close it.
        session_cookie: Name of the cookie; None, the default, is ``"session"``, or ``"__Host-session"`` with
            ``https_only=True`` unless a path or domain is set. The prefix ``__Host-`` is the safest.
        ttl: Seconds after its last use that a session ends, and age of the cookie; None is never. DEFAULT is
            the storage's own timeout. With 0 or less, as with Starlette's own middleware,
            sessions end at once.
        path: Path of the cookie.
        same_site: ``"lax"``, ``"strict"`` or ``"none"``.
        https_only: Whether the cookie is ``Secure``: True, False, or None, the default, for requests that
            came by https.
        domain: Domain of the cookie; None is only the host that set it.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS).
        secret_key: Ignored, as ids are random and need no signature.
        absolute_timeout: Seconds after its creation that a session ends however much it is used.
        serializer: Encodes the data: an object with ``dumps`` and ``loads``. JSON unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        eager: Whether to read the session before the application is called, if there is a cookie.
            False reads it when first accessed, which works in the middleware's own task and in
            worker threads; None, the default, is True if a `BaseHTTPMiddleware` lies between, which
            runs the application in another task.
        unavailable: How requests are answered while the storage is unavailable: ``"503"``, or ``"raise"``
            to raise `StorageUnavailable` for the application's own error handlers.
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
        client_info: Gives what to keep of the client with its session, for lists: such as ``address_and_user_agent``, or
            a function of a `ClientRequest`. It is kept whenever the session is written. None, the default, keeps nothing.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        app: ASGIApp,
        storage: ManagedSessionStorage,
        session_cookie: str | None = None,
        ttl: Duration | Default | None = DEFAULT,
        path: str = "/",
        same_site: SameSite = "lax",
        https_only: bool | None = None,
        domain: str | None = None,
        partitioned: bool = False,
        *,
        secret_key: object = None,
        absolute_timeout: Duration | None = None,
        expire_at_browser_close: bool = False,
        max_age: Duration | Default | None = DEFAULT,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        eager: bool | None = None,
        unavailable: str = "503",
        serialize: bool | Duration = False,
        transports: Sequence[Cookie | Bearer] | None = None,
        subject_key: SubjectKey | None = None,
        anonymous_ttl: Duration | Default | None = DEFAULT,
        client_info: ClientInfo | None = None,
    ) -> None:
        if secret_key is not None:
            logger.warning("SessionMiddleware needs no secret_key and ignores it: session ids are random")
        self.app = app
        cookie = Cookie(session_cookie, path, domain, same_site, https_only, partitioned)  # type: ignore[arg-type]
        self.cookie, found = checked_transports(transports, cookie, is_set=cookie != Cookie())
        self.manager = SessionManager(
            storage,
            self.cookie,
            transports=found,
            timeouts=Timeouts.checked(
                _at_least_shortest(ttl),
                absolute_timeout,
                expire_at_browser_close=expire_at_browser_close,
                max_age=_at_least_shortest(max_age),
                anonymous_ttl=anonymous_ttl,
            ),
            serializer=serializer,
            rotate_on_login=rotate_on_login,
            subject_key=subject_key,
            client_info=client_info,
        )
        self.eager = _splits_tasks(app) if eager is None else eager
        self.raises = is_raised(unavailable)
        self.queue = request_queue(serialize)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
            self._start(scope)
            await self.app(scope, receive, send)
            return
        connection = RequestSession(
            self.app,
            scope,
            receive,
            send,
            manager=self.manager,
            eager=self.eager,
            raises=self.raises,
            queue=self.queue,
        )
        await connection.serve()

    def _start(self, scope: Scope) -> None:
        """Called when the application starts."""


class SessionModel(ConnectionModel[M]):
    """Part of a session as a model: ``await carts(request)``, where ``carts = SessionModel(Cart)``.

    Changes of it are written to the session when the response begins, merged field by field with those of other
    requests.

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

    async def __call__(self, connection: HasScope) -> M:
        """The model of a request or WebSocket.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            StorageUnavailable: If the session cannot be read.
        """
        return self._give(await load(connection))


def _at_least_shortest(ttl: Duration | Default | None) -> Duration | Default | None:
    return _SHORTEST if isinstance(ttl, (int, float)) and ttl <= 0 else ttl


def _splits_tasks(app: Any) -> bool:
    """Whether a middleware runs the application in another task."""
    while app is not None:
        if isinstance(app, BaseHTTPMiddleware):
            return True
        app = getattr(app, "app", None)
    return False
