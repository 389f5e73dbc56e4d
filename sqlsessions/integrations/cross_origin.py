"""A guard of ASGI applications against requests that other sites have a browser send."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv6Address
from typing import Any

from ..errors import InvalidArgument, InvalidArgumentType

__all__ = ["CrossOriginGuard"]

logger = logging.getLogger("sqlsessions")

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({b"same-origin", b"none"})  # "none" is the user, such as by a bookmark
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_PORTS = {"http": "80", "https": "443"}
_LARGEST_PORT = 65535
_TEXT = b"Cross-origin request refused."


class CrossOriginGuard:
    """Refuses requests that change something and come from another origin, with status 403.

    The header ``Sec-Fetch-Site`` decides, which browsers send and scripts cannot set. If it is missing, as in browsers
    older than 2023, ``Origin`` must name the host of the request. A request with neither header comes from no browser
    and passes. GET, HEAD and OPTIONS pass, since they must change nothing; a WebSocket handshake is checked. The rules
    are those of ``http.CrossOriginProtection`` in Go.

    Args:
        app: The application.
        trusted_origins: Origins whose requests pass, such as ``"https://pay.example"``: a scheme, a host, and a port
            unless it is the scheme's own, which may be left out; nothing else.

    Raises:
        InvalidArgument: If an origin has another form.
        InvalidArgumentType: If it is no text.
    """

    def __init__(
        self, app: Callable[[Any, Any, Any], Awaitable[None]], trusted_origins: Iterable[str] = ()
    ) -> None:
        self.app = app
        self._trusted = frozenset(map(_checked, trusted_origins))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] not in ("http", "websocket") or self._passes(scope):
            await self.app(scope, receive, send)
            return
        logger.warning("a cross-origin request was refused")
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": _TEXT})

    def _passes(self, scope: Any) -> bool:
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return True
        site, origin, host = (_values(scope, name) for name in (b"sec-fetch-site", b"origin", b"host"))
        if len(origin) == 1 and origin[0] in self._trusted:
            return True
        if site:
            return len(site) == 1 and site[0] in _OWN
        return not origin or (len(origin) == len(host) == 1 and _host(origin[0]) == host[0].lower())


def _values(scope: Any, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _host(origin: bytes) -> bytes | None:
    """The host and port of an origin; None if it is no origin, such as ``null``."""
    scheme, separator, host = origin.partition(b"://")
    return host.lower() if separator and scheme and host and b"/" not in host else None


def _checked(origin: str) -> bytes:
    """A trusted origin as browsers write it, without the port that its scheme has anyway (RFC 6454, section 6.2)."""
    if not isinstance(origin, str):
        raise InvalidArgumentType(f"a trusted origin must be a str, not {type(origin).__name__}")
    match = _ORIGIN.fullmatch(origin)
    if match is None or int(match["port"] or 1) > _LARGEST_PORT or not _is_host(match["host"]):
        raise InvalidArgument(
            "a trusted origin must be like 'https://pay.example' or 'https://pay.example:8443', in lower case and "
            f"without a path, not {origin!r}"
        )
    own = match["port"] == _PORTS.get(match["scheme"])
    return origin.removesuffix(f":{match['port']}").encode() if own else origin.encode()


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        return str(IPv6Address(host[1:-1])) == host[1:-1]  # browsers write it in its shortest form
    except ValueError:
        return False
