"""Django's session middleware, for requests with several cookies of the session's name."""

from __future__ import annotations

from django.conf import settings
from django.contrib.sessions import middleware
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from ._web.asgi import cookies_of
from ._web.candidates import candidate_ids
from ._web.cookies import cookie_values, parse_id


class SessionMiddleware(middleware.SessionMiddleware):  # type: ignore[misc]
    """Django's own of this name; of several cookies of the same name, it takes the one whose session lives.

    Browsers send several after a change of SESSION_COOKIE_PATH or SESSION_COOKIE_DOMAIN, or if another host
    of the domain sets one. Django's own takes the last of them.
    """

    def process_request(self, request: HttpRequest) -> None:
        """Give a request its session; nothing is read yet."""
        name = settings.SESSION_COOKIE_NAME
        if isinstance(request, ASGIRequest):
            keys = cookies_of(request.scope, name)
        else:
            keys = cookie_values([request.META.get("HTTP_COOKIE", "")], name)
        ids = candidate_ids(keys, parse_id)
        found = ids or keys
        request.session = self.SessionStore(found[-1] if found else None)
        request.session.candidates = ids
