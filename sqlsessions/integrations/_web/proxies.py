"""Noticing a proxy that ends TLS and that the server does not trust."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from .cookies import Cookie

logger = logging.getLogger("sqlsessions")

_BY_HTTPS = re.compile(r"""(?:^|[;,])\s*proto\s*=\s*"?https\b""", re.IGNORECASE)

HeaderGetter = Callable[[str], str | None]
"""Gives the value of a request's header by its name in lower case; None if there is no such header."""


class ProxyWarning:
    """Warns, once, that a cookie lacks ``Secure`` although browsers come by https.

    The headers are not believed: any client can send them. They only tell what may be wrong.
    """

    def __init__(self) -> None:
        self._given = False

    def check(self, cookie: Cookie, *, https: bool, header: HeaderGetter) -> None:
        """Look at a request whose response sets the cookie.

        Args:
            cookie: The cookie.
            https: Whether the request came by https, as far as the server knows.
            header: Gives the request's headers.
        """
        if self._given or cookie.secure is not None or cookie.must_be_secure(https=https):
            return
        by_https = (header("x-forwarded-proto") or "").strip().lower() == "https"
        if by_https or _BY_HTTPS.search(header("forwarded") or ""):
            self._given = True
            logger.warning(
                "a proxy says that requests come by https, but the server does not trust it, so that the session "
                "cookie is not Secure: have the server trust the proxy's headers, or set the cookie to be "
                "Secure always"
            )
