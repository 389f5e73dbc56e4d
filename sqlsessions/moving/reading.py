"""What the sources have in common: ids, subjects, and data as the integrations read it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .._validation import checked_subject
from ..errors import InvalidArgument, InvalidArgumentType, missing
from ..layers.sources import Refused

Subject = str | Callable[[dict[str, Any]], str | None] | None
"""Whose a session is, by its data: the key that names the user, or a function; None is nobody's."""

UNSAFE_ID = Refused("its id is not of 32 to 256 letters, digits and -_.~%: the integrations refuse it")
UNREADABLE = Refused("its data cannot be read by this serializer")
NOT_JSON = Refused("its data holds what JSON does not have")
NO_DICT = Refused("its data is no dictionary")
NO_SUBJECT = Refused("its subject is not of 1 to 255 characters that UTF-8 has, without NUL")
FORGED = Refused("its signature is of another key")

_ID = re.compile(r"[A-Za-z0-9_.~%-]{32,256}")
_WIDE_NUMBER = re.compile(r"\d{19}")
_WIDE = b" "  # as in integrations/_web/serializers.py: JSON that only the standard library reads exactly


def is_id(id: str) -> bool:
    """Whether the integrations look up such an id."""
    return _ID.fullmatch(id) is not None


class Reading:
    """Turns the data of an old session into what is stored.

    Args:
        subject: Whose a session is.
        loads: Decodes the old data; raises any exception for what it cannot.
        dumps: Encodes what it gave; None is as the integrations do by default.
        keep: Whether data is stored as it is instead.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        subject: Subject,
        loads: Callable[[bytes], Any],
        dumps: Callable[[dict[str, Any]], bytes] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        if subject is not None and not isinstance(subject, str) and not callable(subject):
            raise InvalidArgumentType(f"subject must be a key or a function, not {type(subject).__name__}")
        self._subject, self._loads, self._dumps, self._keep = subject, loads, dumps or as_json, keep

    def read(self, stored: bytes) -> tuple[bytes, str | None] | Refused:
        """The data and the subject."""
        try:
            data = self._loads(stored)
        except Exception:  # noqa: BLE001 (a serializer may raise anything)
            return UNREADABLE
        if not isinstance(data, dict):
            return NO_DICT
        try:
            if (subject := self._subject_of(data)) is not None:
                checked_subject(subject)
        except Exception:  # noqa: BLE001 (a function of the caller's may raise anything)
            return NO_SUBJECT
        try:
            return stored if self._keep else self._dumps(data), subject
        except Exception:  # noqa: BLE001 (the same)
            return NOT_JSON

    def _subject_of(self, data: dict[str, Any]) -> str | None:
        if callable(self._subject):
            return self._subject(data)
        value = None if self._subject is None else data.get(self._subject)
        return None if value is None else str(value)


def as_json(data: dict[str, Any]) -> bytes:
    """Data as the integrations store it unless they have a serializer of their own.

    Raises:
        TypeError: If JSON does not have it.
        ValueError: The same.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    wide = _WIDE_NUMBER.search(text) is not None
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        wide, encoded = True, text.encode("utf-8", "surrogatepass")
    return _WIDE + encoded if wide else encoded


def flask_loads() -> Callable[[bytes], Any]:
    """A decoder of data as Flask-Session 0.6 and newer write it: msgpack or JSON.

    Raises:
        ModuleNotFoundError: If msgspec is not installed: else all data would count as what cannot be read.
    """
    try:
        import msgspec  # noqa: PLC0415 (only this needs it)
    except ModuleNotFoundError as error:
        raise missing(error, "data of Flask-Session", None) from error

    def loads(stored: bytes) -> Any:
        try:
            return msgspec.msgpack.decode(stored)
        except msgspec.DecodeError:
            return msgspec.json.decode(stored)

    return loads


def checked_text(name: str, value: str) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise InvalidArgumentType(f"{name} must be a str, not {type(value).__name__}")
    if not value:
        raise InvalidArgument(f"{name} must not be empty")
    return value
