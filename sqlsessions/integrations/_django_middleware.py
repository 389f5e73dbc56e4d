"""Django's session middleware, for requests with several cookies of the session's name."""

from __future__ import annotations

from django.conf import settings
from django.contrib.sessions import middleware
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from ._web.asgi import cookies_of
from ._web.candidates import candidate_ids
from ._web.cookies import cookie_values, parse_id


class SessionMiddleware(middleware.SessionMiddleware):  # type: ignore[misc]
    """Django's own of this name, with some differences.

    Of several cookies of the same name, it takes the one whose session lives; Django's own takes the last.
    Browsers send several after a change of SESSION_COOKIE_PATH or SESSION_COOKIE_DOMAIN, or if another host of
    the domain sets one.

    It sends the cookie of a session that has it only once that gains 5 % of its time; Django's own sends it
    whenever the session is saved. Responses overtake each other, and that to a request from before a login,
    with the cookie from before it, would log the user out.

    It gives a ``client_info`` the request, and has the use of a session that was only read noted, if the storage has a
    ``touch_every``.
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
        request.session.candidates, request.session.meta = ids, request.META

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Save the session if it was modified, and send its cookie if the browser needs it."""
        session, name = request.session, settings.SESSION_COOKIE_NAME
        try:
            response = super().process_response(request, response)
        except SessionInterrupted:
            if session.modified or not session.is_late:  # else SESSION_SAVE_EVERY_REQUEST is set
                raise
            patch_vary_headers(response, ("Cookie",))
        session.note_use()
        sent = response.cookies.get(name)
        if sent is not None and (
            session.ended_late
            if not sent.value
            else sent.value == session.session_key and not session.cookie_due
        ):
            del response.cookies[name]
        return response
