"""Transports: where requests present a session id, and where responses give one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import InvalidArgument, InvalidArgumentType
from .cookies import TOKEN, Cookie, cookie_values

Headers = Callable[[str], list[str]]
"""Gives the values of a request's header by its name, one for each time that it was sent."""

Parse = Callable[[str | None], str | None]

_IS_BEARER = re.compile(r"bearer(?=[\s,]|$)", re.IGNORECASE)
_BEARER = re.compile(r"bearer(?:[ \t]+(\S*)[ \t]*)?", re.IGNORECASE)
_RESERVED = frozenset({"authorization", "cache-control", "cookie", "set-cookie", "vary", "www-authenticate"})


@dataclass(frozen=True, slots=True)
class Bearer:
    """The session id in ``Authorization: Bearer ...`` (RFC 6750), for clients that keep no cookies.

    A response gives the id in a header of its own if it is new or has changed; the header is empty if the session
    has ended. It never sets a cookie. A client that has no id yet asks for this by ``Authorization: Bearer``.

    Attributes:
        header: The name of that header.

    Raises:
        InvalidArgument: If it is no name of a header, or that of one with another meaning.
    """

    header: str = "X-Session-Token"

    def __post_init__(self) -> None:
        """Refuse what could not be sent."""
        if not TOKEN.fullmatch(self.header) or self.header.lower() in _RESERVED:
            raise InvalidArgument(f"header must be the name of a header of its own, not {self.header!r}")


Transport = Cookie | Bearer


@dataclass(frozen=True, slots=True)
class Transports:
    """The transports of an integration that takes more than its cookie.

    Attributes:
        bearer: The bearer transport.
        has_cookie: Whether there is also the cookie.
        cookie_first: Whether the cookie is used if a request presents an id by both.
    """

    bearer: Bearer
    has_cookie: bool
    cookie_first: bool

    @property
    def vary(self) -> tuple[str, ...]:
        """The headers of requests on which a session depends."""
        return ("Cookie", "Authorization") if self.has_cookie else ("Authorization",)

    def presented(self, headers: Headers, cookie: str, parse: Parse) -> tuple[list[str], Bearer | None]:
        """What a request presents, and the transport of its response.

        A request without an id is answered by the cookie, unless it has ``Authorization: Bearer``, of any form.

        Args:
            headers: Gives the headers of the request.
            cookie: The name of the cookie.
            parse: Gives a value back if it could be an id.

        Returns:
            The values of the transport, and the transport; None is the cookie.
        """
        tokens = bearer_values(headers("Authorization"))
        if not self.has_cookie:
            return tokens or [], self.bearer
        cookies = cookie_values(headers("Cookie"), cookie)
        by_bearer = tokens is not None and any(parse(token) is not None for token in tokens)
        by_cookie = any(parse(value) is not None for value in cookies)
        if by_bearer and by_cookie:
            by_bearer = not self.cookie_first
        elif not by_cookie:
            by_bearer = tokens is not None
        return (tokens or [], self.bearer) if by_bearer else (cookies, None)


def bearer_values(authorization: Sequence[str]) -> list[str] | None:
    """The token of a request: in a list, which is empty if there is none; None if it does not use the scheme.

    Args:
        authorization: Its ``Authorization`` headers. A request must not have several (RFC 9110, section 5.3); the
            token of one that has is empty, as is one of another form than that of the scheme.
    """
    if not any(map(_IS_BEARER.match, authorization)):
        return None
    if len(authorization) > 1 or (match := _BEARER.fullmatch(authorization[0])) is None:
        return [""]
    return [match[1]] if match[1] else []


def checked_transports(
    given: Sequence[Transport] | None, cookie: Cookie, *, is_set: bool
) -> tuple[Cookie, Transports | None]:
    """The cookie of an integration, and its transports; None if it has the cookie alone.

    Args:
        given: The transports in the order of precedence; None is the cookie alone.
        cookie: The cookie that the integration's other settings describe.
        is_set: Whether any of them was given.

    Raises:
        InvalidArgument: If there is no transport or several of a kind, or the cookie is described twice.
        InvalidArgumentType: If one is neither a `Cookie` nor a `Bearer`.
    """
    if given is None:
        return cookie, None
    for transport in given:
        if not isinstance(transport, (Cookie, Bearer)):
            raise InvalidArgumentType(
                f"transports must be made of Cookie(...) and Bearer(...), not {transport!r}"
            )
    cookies = [transport for transport in given if isinstance(transport, Cookie)]
    bearers = [transport for transport in given if isinstance(transport, Bearer)]
    if not given or len(cookies) > 1 or len(bearers) > 1:
        raise InvalidArgument("transports must have a Cookie, a Bearer, or one of each")
    if is_set:
        raise InvalidArgument("with transports, give the settings of the cookie to Cookie(...) among them")
    found = cookies[0] if cookies else cookie
    if not bearers:
        return found, None
    return found, Transports(bearers[0], bool(cookies), isinstance(given[0], Cookie))
