"""What the OpenAPI schema of a FastAPI application says of its sessions."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.security import APIKeyCookie
from fastapi.security.base import SecurityBase

from ..errors import InvalidArgument
from . import starlette
from ._web.cookies import Cookie
from ._web.transports import Transports

COOKIE, BEARER = "SessionCookie", "SessionBearer"
"""Names of the security schemes."""

_OF_COOKIE = "The cookie of the session; the service sets it."


class NeedsSession(SecurityBase):
    """A dependency of whose routes FastAPI says that they have a session.

    What a request presents is a setting of the application's middleware, which a dependency does not know. Until
    `document_sessions` sets it right, it is the cookie that there is by default.
    """

    model = APIKeyCookie(name=Cookie().name, description=_OF_COOKIE).model
    scheme_name = COOKIE


class SessionMiddleware(starlette.SessionMiddleware):
    __doc__ = starlette.SessionMiddleware.__doc__

    def _start(self, scope: Any) -> None:
        if isinstance(scope.get("app"), FastAPI):
            document_sessions(scope["app"])


def document_sessions(app: FastAPI) -> None:
    """Have ``app.openapi()`` describe the sessions of an application as its `SessionMiddleware` is set.

    The middleware does so itself when the application starts. Call it where the schema is made without a server. The
    routes are those whose dependencies, or the dependencies of these, include `CurrentSession` or `fresh`; a
    `SessionModel` alone is not seen. They get the security schemes ``SessionCookie`` (``APIKeyCookie``), with the name that the cookie
    has, and ``SessionBearer`` (``HTTPBearer``), if there are ``transports`` with a `Bearer`.

    Args:
        app: The application. If it has no `SessionMiddleware`, its ``openapi()`` raises `InvalidArgument`.
    """
    make, described = app.openapi, None
    if getattr(make, "describes_sessions", False):
        return

    def openapi() -> dict[str, Any]:
        nonlocal described
        schema = make()
        if schema is not described:  # FastAPI makes it once
            _describe(schema, _schemes(*_settings(app)))
            described = schema
        return schema

    openapi.describes_sessions = True  # type: ignore[attr-defined]
    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's "Extending OpenAPI" has it


def _describe(schema: dict[str, Any], described: dict[str, Any]) -> None:
    schemes = schema.get("components", {}).get("securitySchemes", {})
    if schemes.pop(COOKIE, None) is None:
        return
    schemes |= described
    for path in (*schema.get("paths", {}).values(), *schema.get("webhooks", {}).values()):
        for operation in path.values():
            if isinstance(operation, dict) and {COOKIE: []} in operation.get("security", ()):
                operation["security"].remove({COOKIE: []})
                operation["security"] += [{name: []} for name in described]


def _settings(app: FastAPI) -> tuple[Cookie, Transports | None]:
    for middleware in app.user_middleware:
        kind: Any = middleware.cls
        if isinstance(kind, type) and issubclass(kind, starlette.SessionMiddleware):
            made = kind(app, *cast(Any, middleware.args), **cast(Any, middleware.kwargs))
            return made.cookie, made.manager.transports
    raise InvalidArgument(
        "the application has no SessionMiddleware: app.add_middleware(SessionMiddleware, ...)"
    )


def _schemes(cookie: Cookie, transports: Transports | None) -> dict[str, Any]:
    """The security schemes by their names, in the order of precedence."""
    by_cookie = {COOKIE: {"type": "apiKey", "in": "cookie", "name": cookie.name, "description": _OF_COOKIE}}
    if transports is None:
        return by_cookie
    gives = f"The id of the session, as the response header {transports.bearer.header} gave it last."
    by_bearer = {BEARER: {"type": "http", "scheme": "bearer", "description": gives}}
    if not transports.has_cookie:
        return by_bearer
    return by_cookie | by_bearer if transports.cookie_first else by_bearer | by_cookie
