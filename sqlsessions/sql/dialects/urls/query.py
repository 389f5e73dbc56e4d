"""The options of a URL, each read once and checked."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from sqlalchemy import URL

from ....errors import InvalidArgument

_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True}
_BOOLEANS |= {"false": False, "0": False, "no": False, "off": False}

POOL_OPTIONS = (
    "pool_size",
    "max_overflow",
    "pool_timeout",
    "connection_limit",
    "pool_max_conns",
    "pool_min_conns",
    "pool_max_conn_lifetime",
)
"""Options of other libraries' pools."""

ELSEWHERE = dict.fromkeys(POOL_OPTIONS, "give the storage pool_size or pool_timeout") | {
    "isolation_level": "leave it out: a storage begins and ends its own transactions",
    "echo": "give the storage engine_options={'echo': True}",
}
"""Options of no URL here, and what to write instead."""


class UrlOptions:
    """The options in the query of a URL. What is not read is refused by `finish`.

    No message quotes a value, which may be a password.

    Args:
        url: The URL.
    """

    def __init__(self, url: URL) -> None:
        self._left: dict[str, str | tuple[str, ...]] = dict(url.query)
        self._read: set[str] = set()

    def texts(self, name: str) -> list[str]:
        """Every value of an option that may be given several times."""
        self._read.add(name)
        value = self._left.pop(name, ())
        return [value] if isinstance(value, str) else list(value)

    def text(self, *names: str) -> str | None:
        """The value of an option that has several names; None if it is not given."""
        given = [(name, value) for name in names for value in self.texts(name)]
        if len({value for _, value in given}) > 1:
            raise InvalidArgument(
                f"url gives {' and '.join(sorted({name for name, _ in given}))} more than one value"
            )
        return given[0][1] if given else None

    def choice(self, choices: Iterable[str], *names: str) -> str | None:
        """One of several words, in upper or lower case."""
        if (value := self.text(*names)) is None:
            return None
        choices = list(choices)
        word = value.lower().replace("_", "-")
        if word not in choices:
            raise InvalidArgument(f"url: {names[0]} must be one of {', '.join(choices)}")
        return word

    def boolean(self, *names: str) -> bool | None:
        """A word that says yes or no."""
        if (value := self.text(*names)) is None:
            return None
        if (found := _BOOLEANS.get(value.lower())) is None:
            raise InvalidArgument(f"url: {names[0]} must be true or false")
        return found

    def integer(self, *names: str, least: int = 0) -> int | None:
        """A whole number."""
        if (value := self.text(*names)) is None:
            return None
        if not (value.isascii() and value.isdigit()) or int(value) < least:
            raise InvalidArgument(f"url: {names[0]} must be a whole number, at least {least}")
        return int(value)

    def seconds(self, *names: str) -> float | None:
        """A duration."""
        if (value := self.text(*names)) is None:
            return None
        try:
            found = float(value)
        except ValueError:
            found = 0.0
        if not 0 < found < 1e9:  # noqa: PLR2004 (no number, too)
            raise InvalidArgument(f"url: {names[0]} must be a number of seconds above 0")
        return found

    def file(self, *names: str, word: str | None = None) -> str | None:
        """The name of a file that can be read, or a word that may stand in its place."""
        value = self.text(*names)
        if value is None or value == word:
            return value
        try:
            path = Path(value).expanduser()
            with path.open("rb"):
                return str(path)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InvalidArgument(f"url: {names[0]} names no file that can be read ({reason})") from None

    def flag_in_json(self, name: str, key: str) -> bool | None:
        """A boolean in a JSON object, which some hosts hand out; None if the value is no such object."""
        value = self._left.get(name)
        try:
            found = json.loads(value) if isinstance(value, str) else None
        except ValueError:
            return None
        if not isinstance(found, dict) or list(found) != [key] or not isinstance(found[key], bool):
            return None
        self.texts(name)
        return bool(found[key])

    def refuse(self, instead: Mapping[str, str]) -> None:
        """Refuse options that have no meaning here.

        Args:
            instead: What to write instead of each.
        """
        self._read |= set(instead)
        for name, hint in instead.items():
            if name in self._left:
                raise InvalidArgument(f"url has the option {name!r}, which is not supported: {hint}")

    def finish(self) -> None:
        """Refuse what was not read."""
        self.refuse(ELSEWHERE)
        for name in self._left:
            near = get_close_matches(name.lower(), sorted(self._read - set(ELSEWHERE)), 1)
            hint = f"write {near[0]!r}" if near and near[0] != name else "leave it out"
            raise InvalidArgument(f"url has an unknown option {name!r}: {hint}")


def check_certificates(
    authority: str | None, certificate: str | None, key: str | None, password: str | None = None
) -> None:
    """Load the files that a URL names for TLS, so that a wrong one is noticed now.

    Raises:
        InvalidArgument: If one does not hold what it should.
    """
    if authority is None and certificate is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authority is not None:
            context.load_verify_locations(cafile=authority)
    except (OSError, ValueError):
        raise InvalidArgument("url: the file of the certificate authority holds no certificate") from None
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password or "")
    except (OSError, ValueError):
        raise InvalidArgument(
            "url: the client's certificate and key are not in their files, or do not belong together"
        ) from None
