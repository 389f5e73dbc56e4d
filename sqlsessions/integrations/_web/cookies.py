"""The session cookie: its allowed names and attributes, and its header (RFC 6265bis)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ...errors import InvalidArgument
from ...storage import DEFAULT

SameSite = Literal["lax", "strict", "none", "Lax", "Strict", "None"]

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ATTRIBUTE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")  # printable ASCII but the semicolon
_OCTETS = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,4096}")
DEFAULT_NAME = "session"
_UNLESS_SET = {"path": "/", "same_site": "lax", "partitioned": False}
_ID = re.compile(r"[A-Za-z0-9_.~%-]{32,256}")
LONGEST_AGE = 400 * 24 * 60 * 60
"""The longest time in seconds that browsers keep a cookie."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """A session cookie's name and attributes.

    Attributes:
        name: A token; with the prefix ``__Host-`` or ``__Secure-`` browsers enforce what it says. Unless set,
            ``"session"``, or ``"__Host-session"`` with ``secure=True`` and no path or domain.
        path: Where the browser sends it; ``"/"`` unless set.
        domain: The hosts that get it; None is only the host that set it.
        same_site: Whether requests from other sites carry it; in lower case, whatever was given. ``"lax"`` unless
            set.
        secure: Whether it is sent over https only; None is True for requests that came by https.
        partitioned: Whether it is partitioned by top-level site (CHIPS); unless set, it is not.
        unset: The names of the attributes above that were not given; for integrations.

    Raises:
        InvalidArgument: If browsers would reject such a cookie.
    """

    name: str = None  # type: ignore[assignment]  # a str once it is made, and so with those below
    path: str = DEFAULT  # type: ignore[assignment]
    domain: str | None = None
    same_site: SameSite = DEFAULT  # type: ignore[assignment]
    secure: bool | None = None
    partitioned: bool = DEFAULT  # type: ignore[assignment]
    unset: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what browsers would silently reject."""
        self._fill()
        if not TOKEN.fullmatch(self.name):
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
            self._refuse_insecure()

    def _fill(self) -> None:
        """Set what was not given."""
        unset = frozenset(name for name in self.__match_args__ if getattr(self, name) in (None, DEFAULT))
        object.__setattr__(self, "unset", unset)
        for name, value in _UNLESS_SET.items():
            if getattr(self, name) is DEFAULT:
                object.__setattr__(self, name, value)
        if self.name is None:
            made = default_name(DEFAULT_NAME, path=self.path, domain=self.domain, secure=self.secure)
            object.__setattr__(self, "name", made)

    def _refuse_insecure(self) -> None:
        prefixed = self.name.lower().startswith(("__host-", "__secure-"))
        needs = {
            "its name's prefix": prefixed,
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


def default_name(name: str, *, path: str, domain: str | None, secure: bool | None) -> str:
    """The name of a cookie for which none was chosen: with ``__Host-`` wherever browsers take that.

    No other host, and no response that came by http, can then set the cookie (RFC 6265bis, section 4.1.3.2).
    """
    return f"__Host-{name}" if secure and path == "/" and domain is None else name


def cookie_values(headers: Iterable[str], name: str) -> list[str]:
    """All values of one cookie, in the order of the request.

    A browser sends several cookies of one name if they were set for several paths or domains, or if only
    some are partitioned.

    Args:
        headers: The ``Cookie`` headers: HTTP/2 may split them (RFC 9113, section 8.2.3).
        name: Name of the cookie.
    """
    values = []
    for header in headers:
        for pair in header.split(";") if name in header else ():
            key, equals, value = pair.partition("=")
            # Other white space is part of a name, else a cookie could pass for a __Host- one.
            if equals and key.strip(" \t") == name:
                value = value.strip(" \t")
                values.append(value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value)
    return values


def parse_id(value: str | None) -> str | None:
    """The value of a cookie if it is long enough for a random id, ours or one that was moved from another library."""
    return value if value is not None and _ID.fullmatch(value) else None


def parse_custom_id(value: str | None) -> str | None:
    """The value of a cookie if a function of the application could have made it as an id."""
    return value if value is not None and _OCTETS.fullmatch(value) else None
