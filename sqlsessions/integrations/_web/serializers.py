"""Serializers of session data: the protocol, and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from ...errors import InvalidArgument, InvalidArgumentType

_LONG = re.compile(rb"[0-9]{19}")


@runtime_checkable
class Serializer(Protocol):
    """Encodes a dict of session data as bytes, and decodes it.

    ``dumps`` must give equal bytes for equal data, or unchanged sessions are written again. ``loads``
    may raise any exception for bytes that it cannot decode.
    """

    def dumps(self, value: dict[str, Any], /) -> bytes:
        """Encode a dict."""

    def loads(self, data: bytes, /) -> Any:
        """Decode a dict."""


class JSONSerializer:
    """JSON, the default: with orjson or msgspec if they are installed, for the same types.

    Strings, numbers, booleans, None, lists and dicts come back as they were; tuples come back as
    lists, and keys that are numbers as strings. NaN and the infinities are refused, as JSON cannot
    represent them (RFC 8259, section 6), and integers of more than 64 bits, which the faster libraries
    read as floats.
    """

    def __init__(self) -> None:
        self._fast_dumps, self._loads = _fastest()

    def dumps(self, value: dict[str, Any], /) -> bytes:
        """Encode.

        Raises:
            InvalidArgumentType: If a value is of a type that JSON does not have.
            InvalidArgument: If a number is not finite or an integer of more than 64 bits, a text cannot be
                encoded as UTF-8, or a value contains itself.
        """
        if self._fast_dumps is not None:
            try:
                encoded = self._fast_dumps(value)
            except (TypeError, RecursionError):
                pass  # such as keys that are numbers, which the standard library supports
            else:
                if b"null" not in encoded:  # else it may stand for NaN
                    return encoded
        try:
            encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
            if _LONG.search(encoded):
                json.loads(encoded, parse_int=_checked)
        except TypeError as error:
            kind = str(error).removeprefix("Object of type ").partition(" ")[0]
        except (ValueError, RecursionError):
            kind = None
        else:
            return encoded
        # Outside of `except`, since the encoder's own error may quote data.
        if kind is not None:
            raise InvalidArgumentType(
                f"session data must be what JSON can hold, not {kind}; or give another serializer"
            )
        raise InvalidArgument(
            "session data must be what JSON can hold: finite numbers, integers of at most 64 bits, text that "
            "UTF-8 can encode, no cycles"
        )

    def loads(self, data: bytes, /) -> Any:
        """Decode."""
        return self._loads(data)


def _checked(digits: str) -> int:
    number = int(digits)
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError
    return number


class TextSerializer:
    """A serializer that encodes to text, as UTF-8."""

    def __init__(self, encoder: Callable[[object], str], decoder: Callable[[str], Any]) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def dumps(self, value: dict[str, Any], /) -> bytes:
        return self._encoder(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return self._decoder(data.decode())


def checked_serializer(serializer: Serializer | None) -> Serializer:
    """The serializer given, or the default.

    Raises:
        InvalidArgumentType: If it does not have both methods.
    """
    if serializer is None:
        return JSONSerializer()
    if not isinstance(serializer, Serializer):
        raise InvalidArgumentType(
            f"serializer must have dumps and loads; {type(serializer).__name__} has not both"
        )
    return serializer


def _fastest() -> tuple[Callable[[Any], bytes] | None, Callable[[bytes], Any]]:
    try:
        orjson = import_module("orjson")
    except ImportError:
        pass
    else:
        # The standard library refuses them too, and they would be strings when read again.
        strict = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

        def dumps(value: Any) -> bytes:
            encoded: bytes = orjson.dumps(value, option=strict)
            return encoded

        return dumps, orjson.loads
    try:
        return None, import_module("msgspec.json").decode  # its encoder supports types that the others refuse
    except ImportError:
        return None, json.loads
