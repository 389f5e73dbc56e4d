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

logger = logging.getLogger("sqlsessions")

_VARIES = re.compile(r"(^|,)\s*(cookie|\*)\s*(,|$)", re.IGNORECASE)
_DIRECTIVE = re.compile(r"""[^\s,="]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]*))?""")
_SECOND = 1_000_000
_SHARED = frozenset({"public", "s-maxage"})


class ResponseHeaders:
    """Gives the headers of responses.

    Args:
        cookie: Name and attributes of the cookie.
        max_age: Idle timeout of new sessions in microseconds; with None the storage's own holds.
        is_persistent: Whether the cookie of a session that has no expiry of its own outlasts the browser;
            by default if there is a ``max_age``.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        cookie: Cookie,
        max_age: int | None,
        is_persistent: Callable[[Session], bool] | None,
        clock: Clock,
    ) -> None:
        self._cookie = cookie
        self._max_age = max_age
        self._is_persistent = is_persistent
        self._clock = clock
        self._proxy_warning = ProxyWarning()

    def of(
        self, session: Session, *, https: bool, header: HeaderGetter, vary: str, cache_control: str
    ) -> list[tuple[str, str]]:
        """The headers that a response gets. ``Set-Cookie`` is given once.

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
        cookie = self.set_cookie(session, https=https)
        if cookie is None:
            if not session.accessed:
                return []
            return caching_headers(vary=vary, cache_control=cache_control, sets_cookie=False)
        self._proxy_warning.check(self._cookie, https=https, header=header)
        caching = caching_headers(vary=vary, cache_control=cache_control, sets_cookie=True)
        return [("Set-Cookie", cookie), *caching]

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
        if session.state.browser is not None:
            return not session.state.browser
        if self._is_persistent is not None:
            return self._is_persistent(session)
        return self._max_age is not None


def _seconds(span: int) -> int:
    """The age of a cookie, which must not end before its session; 0 if that ends at once."""
    return 0 if span < _SECOND else math.ceil(span / _SECOND)


def caching_headers(*, vary: str, cache_control: str, sets_cookie: bool) -> list[tuple[str, str]]:
    """The ``Vary`` and ``Cache-Control`` that a response with a session lacks.

    ``Vary: Cookie`` does not suffice for a response that sets a cookie: browsers without one would all be
    given the same.

    Args:
        vary: The response's ``Vary``; empty if it has none.
        cache_control: The response's ``Cache-Control``; empty if it has none.
        sets_cookie: Whether the response sets the session cookie.

    Returns:
        ``Vary`` is to be added, ``Cache-Control`` to be put in the place of the response's own.
    """
    headers = []
    if not (vary and _VARIES.search(vary)):
        headers.append(("Vary", "Cookie"))
    if not cache_control:
        headers.append(("Cache-Control", "no-store" if sets_cookie else "private"))
    elif sets_cookie and (private := _made_private(cache_control)) is not None:
        logger.debug(
            "a response sets the session cookie: its Cache-Control is made private, as shared caches may "
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
