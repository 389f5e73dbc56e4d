"""From a database URL to the async driver that serves it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ...errors import InvalidArgument, InvalidArgumentType
from ..dialects import DIALECTS, Dialect


def async_url(url: str | URL) -> URL:
    """The URL with an async driver: its own, or the one that is installed.

    Args:
        url: For instance ``postgresql://user@host/name``, ``mysql+asyncmy://...`` or
            ``sqlite:///file.db``.

    Raises:
        InvalidArgumentType: If it is neither a string nor a SQLAlchemy URL.
        InvalidArgument: If it cannot be parsed, names a database or driver that is not supported, or
            the driver is not installed; the message says which extra installs it.
    """
    if not isinstance(url, (str, URL)):
        raise InvalidArgumentType(f"url must be a str, a URL or an AsyncEngine, not {type(url).__name__}")
    try:
        parsed = _parsed(url.strip()) if isinstance(url, str) else url
    except (ArgumentError, ValueError):
        # From None: the parser's error quotes the URL, which may hold a password.
        raise InvalidArgument(
            "url cannot be parsed: it must look like postgresql://user:password@host/database "
            "or sqlite:///file.db"
        ) from None
    if isinstance(url, str) and (_has_at(parsed.host) or (parsed.password and _has_at(parsed.database))):
        # What follows the first @ of a password would be taken for the host, which error messages quote.
        raise InvalidArgument("url has an @ in its user name or password: write it as %40")
    name, _, driver = parsed.drivername.partition("+")
    if name == "sqlite" and parsed.host:
        raise InvalidArgument(
            "url of a SQLite file needs three slashes, as in sqlite:///sessions.db, or four for an absolute path"
        )
    dialect = DIALECTS.get(name)
    if dialect is None:
        raise InvalidArgument(f"url has an unknown scheme {name!r}: {', '.join(DIALECTS)} are supported")
    # SQLAlchemy dropped the short scheme that many hosts still hand out.
    scheme = "postgresql" if name == "postgres" else name
    return parsed.set(drivername=f"{scheme}+{_driver(name, driver, dialect)}")


def _has_at(part: str | None) -> bool:
    return part is not None and "@" in part


def _parsed(url: str) -> URL:
    """A URL from its text, with libpq's several hosts, as in ``postgresql://host1:5432,host2:5433/name``."""
    match = re.match(r"(postgres\w*(?:\+\w+)?://(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)", url)
    if match is None:
        found = make_url(url)
    else:
        found = make_url(match[1] + url[match.end() :]).update_query_dict({"host": match[2].split(",")})
    # The folder of a Unix socket has to be encoded.
    return found.set(host=unquote(found.host)) if found.host else found


def _driver(name: str, driver: str, dialect: Dialect) -> str:
    if driver and driver not in dialect.drivers:
        raise InvalidArgument(
            f"url names the driver {driver!r}, which is not a supported async one: use "
            + " or ".join(f"{name}+{known}" for known in dialect.drivers)
        )
    candidates = [driver] if driver else list(dialect.drivers)
    for candidate in candidates:
        if find_spec(candidate):
            return candidate
    wanted = candidates[0]
    extra = dialect.drivers[wanted]
    raise InvalidArgument(
        f"the driver {wanted!r} for {name} is not installed: pip install 'sqlsessions[{extra}]'"
        if extra
        else f"the driver {wanted!r} for {name} is not installed: pip install {wanted}"
    )
