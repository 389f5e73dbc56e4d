"""Sessions for Starlette and FastAPI: `SessionMiddleware`, and helpers that take a request."""

from __future__ import annotations

import logging
from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ..storage import Duration, ManagedSessionStorage
from ._web.asgi import RequestSession, change, end_other_sessions, end_session, list_sessions, load, save
from ._web.cookies import Cookie, SameSite, default_name
from ._web.manager import SessionManager
from ._web.queues import request_queue
from ._web.serializers import Serializer
from ._web.session import Session
from ._web.unavailable import is_raised

__all__ = [
    "Session",
    "SessionMiddleware",
    "change",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "load",
    "save",
]

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
        max_age: Seconds after its last use that a session ends, and age of the cookie. 14 days unless
            set; with None the cookie ends when the browser is closed, and the storage's own timeout
            holds. With 0 or less, as with Starlette's own, sessions end at once.
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
        serialize: Whether the HTTP requests of one session wait for each other in this process, from their
            first access to the session until their response begins. True waits for up to 10 seconds, a number
            for so many; then the session counts as unavailable.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        app: ASGIApp,
        storage: ManagedSessionStorage,
        session_cookie: str | None = None,
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
        serialize: bool | Duration = False,
    ) -> None:
        if secret_key is not None:
            logger.warning("SessionMiddleware needs no secret_key and ignores it: session ids are random")
        self.app = app
        if session_cookie is None:
            session_cookie = default_name("session", path=path, domain=domain, secure=https_only)
        self.cookie = Cookie(session_cookie, path, domain, same_site, https_only, partitioned)
        self.manager = SessionManager(
            storage,
            self.cookie,
            max_age=_SHORTEST if isinstance(max_age, (int, float)) and max_age <= 0 else max_age,
            absolute_timeout=absolute_timeout,
            serializer=serializer,
            rotate_on_login=rotate_on_login,
        )
        self.eager = _splits_tasks(app) if eager is None else eager
        self.raises = is_raised(unavailable)
        self.queue = request_queue(serialize)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] not in ("http", "websocket"):
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


def _splits_tasks(app: Any) -> bool:
    """Whether a middleware runs the application in another task."""
    while app is not None:
        if isinstance(app, BaseHTTPMiddleware):
            return True
        app = getattr(app, "app", None)
    return False
