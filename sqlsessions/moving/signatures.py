"""Signed cookies: from their value to the id, and back."""

from __future__ import annotations

import base64
import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Sequence
from urllib.parse import quote, unquote

from ..errors import InvalidArgument, missing
from .reading import checked_text


def checked_keys(keys: Sequence[str]) -> list[str]:
    """Secret keys, given as a list.

    Raises:
        InvalidArgument: If it is a string or empty, or if a key is empty.
        InvalidArgumentType: If a key is no string.
    """
    if isinstance(keys, str) or not keys:
        raise InvalidArgument("secret_keys must be a list with at least one key")
    return [checked_text("secret_keys", key) for key in keys]


class Signing(ABC):
    """How a library signs ids.

    Args:
        keys: Secret keys. All are accepted; the first is the one that cookies are taken to be signed with where only
            the id is known.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = checked_keys(keys)

    @abstractmethod
    def sign(self, id: str, key: str | None = None) -> str:
        """The value of the cookie."""

    @abstractmethod
    def id_of(self, value: str) -> str | None:
        """The id in the value of a cookie, of which the signature is not verified; None if it has none."""

    def unsign(self, value: str) -> str | None:
        """The id in the value of a cookie; None if no key made that."""
        if (id := self.id_of(value)) is None:
            return None
        made = [hmac.compare_digest(self.sign(id, key).encode(), value.encode()) for key in self._keys]
        return id if any(made) else None


class FlaskSigning(Signing):
    """The signatures of Flask-Session with ``SESSION_USE_SIGNER``, by itsdangerous."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from itsdangerous import Signer  # noqa: PLC0415 (only this needs it)
        except ModuleNotFoundError as error:
            raise missing(error, "a signature of Flask-Session", "flask") from error
        super().__init__(keys)
        self._signer = Signer

    def sign(self, id: str, key: str | None = None) -> str:
        signer = self._signer(key or self._keys[0], salt="flask-session", key_derivation="hmac")
        return signer.sign(id).decode()

    def id_of(self, value: str) -> str | None:
        id, dot, _ = value.rpartition(".")
        return id if dot else None


class ExpressSigning(Signing):
    """The signatures of express-session: ``s:``, the id, and HMAC-SHA256 in base64, encoded as part of a URL."""

    def sign(self, id: str, key: str | None = None) -> str:
        made = hmac.digest((key or self._keys[0]).encode(), id.encode(), hashlib.sha256)
        return quote(f"s:{id}.{base64.b64encode(made).decode().rstrip('=')}", safe="")

    def id_of(self, value: str) -> str | None:
        plain = unquote(value)
        id, dot, _ = plain.removeprefix("s:").rpartition(".")
        return id if dot and plain.startswith("s:") else None
