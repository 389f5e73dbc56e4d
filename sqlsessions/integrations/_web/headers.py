"""The headers that a response gets from a session: its cookie, and what keeps caches from mixing up browsers."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable

from ...records import Clock, from_datetime, microseconds
from .cookies import LONGEST_AGE, Cookie
from .proxies import HeaderGetter, ProxyWarning
from .session import Session
from .state import State
from .transports import Bearer

logger = logging.getLogger("sqlsessions")

_DIRECTIVE = re.compile(r"""[^\s,="]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]*))?""")
_SECOND = 1_000_000
_SHARED = frozenset({"public", "s-maxage"})


class ResponseHeaders:
    """Gives the headers of responses.

    Args:
        cookie: Name and attributes of the cookie.
        is_persistent: Whether the cookie of a session that has no expiry of its own outlasts the browser; a
            function if that is not the same for all.
        clock: Gives the time in seconds.
        varies: The headers of requests on which a session depends.
    """

    def __init__(
        self,
        cookie: Cookie,
        is_persistent: bool | Callable[[Session], bool],
        clock: Clock,
        varies: tuple[str, ...] = ("Cookie",),
    ) -> None:
        self._cookie = cookie
        self._is_persistent = is_persistent
        self._clock = clock
        self._varies = varies
        self._usual = caching_headers(varies, vary="", cache_control="", gives_id=False)
        self._usual_encoded = _encoded(self._usual)
        self._proxy_warning = ProxyWarning()

    def of(
        self, session: Session, *, https: bool, header: HeaderGetter, vary: str, cache_control: str
    ) -> list[tuple[str, str]]:
        """The headers that a response gets. ``Set-Cookie``, or the header of a bearer, is given once.

        Args:
            session: The session, after its commit, even a failed one.
            https: Whether the request came by https.
            header: Gives the headers of the request.
            vary: The response's ``Vary``; empty if it has none.
            cache_control: The response's ``Cache-Control``; empty if it has none.

        Returns:
            Headers to be added, but ``Cache-Control`` to be put in the place of the response's own.
        """
        session.state.answered = True
        given = self.of_id(session, https=https)
        if given is None:
            if not session.accessed:
                return []
            if not (vary or cache_control):
                return self._usual
            return caching_headers(self._varies, vary=vary, cache_control=cache_control, gives_id=False)
        if session.state.bearer is None:
            self._proxy_warning.check(self._cookie, https=https, header=header)
        caching = caching_headers(self._varies, vary=vary, cache_control=cache_control, gives_id=True)
        return [given, *caching]

    def encoded(self, headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """Headers from `of` as ASGI has them."""
        return self._usual_encoded if headers is self._usual else _encoded(headers)

    def of_id(self, session: Session, *, https: bool) -> tuple[str, str] | None:
        """The header by which the client gets the session's id, or loses it, if that is due; as for `of`."""
        state = session.state
        if not (state.cookie_due or state.clear_due):
            return None
        if state.bearer is not None:
            return _of_bearer(state.bearer, state)
        cookie = self.set_cookie(session, https=https)
        return None if cookie is None else ("Set-Cookie", cookie)

    def set_cookie(self, session: Session, *, https: bool) -> str | None:
        """The ``Set-Cookie`` value that the browser needs, if any; as for `of`."""
        state = session.state
        if state.clear_due:
            state.clear_due = False
            return self._cookie.clear(https=https)
        if not state.cookie_due or state.id is None or session.info is None:
            return None
        state.cookie_due = False
        max_age: int | None = None
        if self.is_persistent(session):
            expires_at = session.info.expires_at
            now = microseconds(self._clock)
            max_age = LONGEST_AGE if expires_at is None else _seconds(from_datetime(expires_at) - now)
        return self._cookie.set(state.id, max_age=max_age, https=https)

    def is_persistent(self, session: Session) -> bool:
        """Whether the cookie of the session outlasts the browser."""
        state, usual = session.state, self._is_persistent
        if state.bearer is not None:  # there is no cookie to be renewed
            return False
        if state.browser is not None:
            return not state.browser
        return usual if isinstance(usual, bool) else usual(session)


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(title.lower().encode(), value.encode("latin-1")) for title, value in headers]


def _seconds(span: int) -> int:
    """The age of a cookie, which must not end before its session; 0 if that ends at once."""
    return 0 if span < _SECOND else math.ceil(span / _SECOND)


def _of_bearer(bearer: Bearer, state: State) -> tuple[str, str] | None:
    """The header with a bearer's id, if that is not the one which the request presents."""
    cleared, changed = state.clear_due, state.cookie_due and state.id != state.from_cookie
    state.clear_due = state.cookie_due = False
    if cleared:
        return bearer.header, ""
    return (bearer.header, state.id) if changed and state.id is not None else None


def caching_headers(
    varies: tuple[str, ...], *, vary: str, cache_control: str, gives_id: bool
) -> list[tuple[str, str]]:
    """The ``Vary`` and ``Cache-Control`` that a response with a session lacks.

    ``Vary: Cookie`` does not suffice for a response that gives an id: browsers without one would all be
    given the same.

    Args:
        varies: The headers of requests on which a session depends.
        vary: The response's ``Vary``; empty if it has none.
        cache_control: The response's ``Cache-Control``; empty if it has none.
        gives_id: Whether the response gives the client the id of its session, or takes it away.

    Returns:
        ``Vary`` is to be added, ``Cache-Control`` to be put in the place of the response's own.
    """
    named = {name.strip().lower() for name in vary.split(",")} if vary else ()
    headers = [("Vary", name) for name in varies if "*" not in named and name.lower() not in named]
    if not cache_control:
        headers.append(("Cache-Control", "no-store" if gives_id else "private"))
    elif gives_id and (private := _made_private(cache_control)) is not None:
        logger.debug(
            "a response gives a session id: its Cache-Control is made private, as shared caches may "
            "not store it"
        )
        headers.append(("Cache-Control", private))
    return headers


def _made_private(cache_control: str) -> str | None:
    """A ``Cache-Control`` without leave for shared caches; None if it gives none (RFC 9111, section 5.2.2)."""
    directives = _DIRECTIVE.findall(cache_control)
    names = [directive.partition("=")[0].strip().lower() for directive in directives]
    # ``private`` with names of headers is about these headers only.
    closed = any(directive.lower() in ("private", "no-store") for directive in directives)
    if closed and not _SHARED.intersection(names):
        return None
    kept = [
        directive
        for directive, name in zip(directives, names, strict=True)
        if name not in _SHARED and name != "private"
    ]
    return ", ".join(["private", *kept])
