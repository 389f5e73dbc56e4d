"""The session cookie: its allowed names and attributes, and its header (RFC 6265bis)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...errors import InvalidArgument

SameSite = Literal["lax", "strict", "none", "Lax", "Strict", "None"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")  # printable ASCII but the semicolon
_OCTETS = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,4096}")
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_VARIES = re.compile(r"(^|,)\s*(cookie|\*)\s*(,|$)", re.IGNORECASE)
LONGEST_AGE = 400 * 24 * 60 * 60
"""The longest time in seconds that browsers keep a cookie."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """A session cookie's name and attributes.

    Attributes:
        name: A token; with the prefix ``__Host-`` or ``__Secure-`` browsers enforce what it says.
        path: Where the browser sends it.
        domain: The hosts that get it; None is only the host that set it.
        same_site: Whether requests from other sites carry it; in lower case, whatever was given.
        secure: Whether it is sent over https only; None is True for requests that came by https.
        partitioned: Whether it is partitioned by top-level site (CHIPS).

    Raises:
        InvalidArgument: If browsers would reject such a cookie.
    """

    name: str = "session"
    path: str = "/"
    domain: str | None = None
    same_site: SameSite = "lax"
    secure: bool | None = None
    partitioned: bool = False

    def __post_init__(self) -> None:
        """Refuse what browsers would silently reject."""
        if not _TOKEN.fullmatch(self.name):
            raise InvalidArgument(f"a cookie's name must be a token of RFC 6265, not {self.name!r}")
        for name, value in (("path", self.path), ("domain", self.domain or "")):
            if not _ATTRIBUTE.fullmatch(value):
                raise InvalidArgument(f"a cookie's {name} must be printable ASCII without ';'")
        if not self.path.startswith("/"):
            raise InvalidArgument(f"a cookie's path must begin with '/', unlike {self.path!r}")
        if isinstance(self.same_site, str):
            object.__setattr__(self, "same_site", self.same_site.lower())
        if self.same_site not in ("lax", "strict", "none"):
            raise InvalidArgument(f"same_site must be 'lax', 'strict' or 'none', not {self.same_site!r}")
        host = self.name.lower().startswith("__host-")
        if host and (self.path != "/" or self.domain is not None):
            raise InvalidArgument("a __Host- cookie must have the path '/' and no domain")
        if self.secure is False:
            needs = {
                "its name's prefix": host or self.name.lower().startswith("__secure-"),
                "same_site='none'": self.same_site == "none",
                "partitioned": self.partitioned,
            }
            for reason in (reason for reason, holds in needs.items() if holds):
                raise InvalidArgument(f"a cookie must be Secure (https only) because of {reason}")

    def must_be_secure(self, *, https: bool) -> bool:
        """Whether the response to a request sets the cookie with ``Secure``."""
        prefixed = self.name.lower().startswith(("__host-", "__secure-"))
        return self.secure or (
            self.secure is None and (https or prefixed or self.partitioned or self.same_site == "none")
        )

    def set(self, id: str, *, max_age: int | None, https: bool) -> str:
        """The ``Set-Cookie`` value that gives a browser a session id.

        Args:
            id: The id.
            max_age: Lifetime in seconds; None is until the browser is closed.
            https: Whether the request came by https.
        """
        parts = [f"{self.name}={id}", f"path={self.path}"]
        if max_age is not None:
            parts.append(f"Max-Age={min(max(max_age, 0), LONGEST_AGE)}")
        return "; ".join(parts + self._flags(https=https))

    def clear(self, *, https: bool) -> str:
        """The ``Set-Cookie`` value that deletes the cookie."""
        gone = [
            f"{self.name}=",
            f"path={self.path}",
            "Max-Age=0",
            "expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ]
        return "; ".join(gone + self._flags(https=https))

    def _flags(self, *, https: bool) -> list[str]:
        flags = ["httponly", f"samesite={self.same_site}"]
        if self.must_be_secure(https=https):
            flags.append("secure")
        if self.domain is not None:
            flags.append(f"domain={self.domain}")
        if self.partitioned:
            flags.append("partitioned")
        return flags


def varies_by_cookie(vary: str) -> bool:
    """Whether a ``Vary`` header lists ``Cookie`` or ``*``, so that caches tell responses apart by cookie."""
    return _VARIES.search(vary) is not None


def parse_id(value: str | None) -> str | None:
    """The value of a cookie if it has the form of our random ids, which alone are looked up."""
    return value if value is not None and _ID.fullmatch(value) else None


def parse_custom_id(value: str | None) -> str | None:
    """The value of a cookie if a function of the application could have made it as an id."""
    return value if value is not None and _OCTETS.fullmatch(value) else None
