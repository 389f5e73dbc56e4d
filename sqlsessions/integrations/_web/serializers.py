"""Serializers of session data: the protocol, JSON, and those of applications."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from ...errors import InvalidArgumentType, InvalidSessionData
from .plain import DEPTH, Plain, culprit, is_too_deep, scalar

_WIDE = b" "
"""Begins JSON that only the standard library reads exactly; to all others it is white space.

It holds integers of more than 64 bits, or lone surrogates, encoded as UTF-8 would if it could.
"""

_LONG = re.compile(rb"[0-9]{19}")
_SHALLOW = 2 * DEPTH  # bytes that cannot hold more levels
_TOO_DEEP = f"it is nested in more than {DEPTH} levels, or holds itself"


@runtime_checkable
class Serializer(Protocol):
    """Encodes a dict of session data as bytes, and decodes it.

    ``dumps`` must give equal bytes for equal data, or unchanged sessions are written again. Both may raise any
    exception for what they cannot encode or decode. What ``loads`` does not decode is not stored.
    """

    def dumps(self, value: dict[str, Any], /) -> bytes:
        """Encode a dict."""

    def loads(self, data: bytes, /) -> Any:
        """Decode a dict."""


class JSONSerializer:
    """JSON, the default: for the same data whether or not orjson or msgspec are installed, which are faster.

    Strings, numbers, booleans, None, lists and dicts come back as they were, those of subclasses as the types
    that JSON has. Tuples come back as lists, and keys that are numbers, booleans or None as strings, as with
    the standard library; UUIDs come back as text, and members of enums as their values. All else is refused, and so are NaN and the infinities, which JSON does not
    have (RFC 8259, section 6), integers of more than 640 digits, and more than 100 levels of nesting.

    Attributes:
        encode: Encodes most data; raises for the rest, of which `draft` knows what to make.
        decode: Decodes what begins with a brace.
        unclear: What a draft holds that may be that of other data; None if it holds no such thing.
    """

    def __init__(self) -> None:
        self.encode, self.decode, self.unclear = _fastest()

    def dumps(self, value: dict[str, Any], /) -> bytes:
        """Encode.

        Raises:
            InvalidSessionData: If it would not come back as said above.
        """
        return self.confirm(value, self.draft(value))

    def loads(self, data: bytes, /) -> Any:
        """Decode."""
        if data[:1] == _WIDE:
            return json.loads(data.decode("utf-8", "surrogatepass"))
        return self.decode(data)

    def draft(self, value: dict[str, Any]) -> bytes:
        """The bytes of data, which are only to be compared before `confirm` has seen them."""
        try:
            return self.encode(value)
        except (TypeError, ValueError, RecursionError):
            return self._plainly(value)

    def confirm(self, value: dict[str, Any], draft: bytes) -> bytes:
        """The bytes to store for data, given its draft.

        Raises:
            InvalidSessionData: If they would not be read as they should.
        """
        if len(draft) > _SHALLOW and draft.count(b"[") + draft.count(b"{") > DEPTH and is_too_deep(value):
            return self._plainly(value)
        if self.unclear is None:
            return self._plainly(value) if _LONG.search(draft) else draft
        if draft.find(self.unclear) < 0 or self._comes_back(value, draft):
            return draft
        return self._plainly(value)

    def _comes_back(self, value: dict[str, Any], draft: bytes) -> bool:
        try:
            return bool(self.decode(draft) == value)
        except Exception:  # noqa: BLE001 (an enum may have a comparison of its own)
            return False

    def _plainly(self, value: dict[str, Any]) -> bytes:
        """Encode data of any of the types that are taken."""
        plain = Plain()
        found = plain(value)
        if not plain.is_wide:
            return self.encode(found)
        return _WIDE + _dump(found).encode("utf-8", "surrogatepass")


class Verified:
    """A serializer that is not ours: nothing is stored that it cannot read.

    Args:
        dumps: Encodes.
        loads: Decodes.

    Attributes:
        encode: `draft`, as `JSONSerializer.encode`.
        decode: ``loads``, as `JSONSerializer.decode`.
        unclear: None, as drafts are what is stored.
    """

    unclear = None

    def __init__(self, dumps: Callable[[dict[str, Any]], bytes], loads: Callable[[bytes], Any]) -> None:
        self._dumps = dumps
        self.loads = self.decode = loads
        self.encode = self.draft

    def dumps(self, value: dict[str, Any], /) -> bytes:
        """Encode.

        Raises:
            InvalidSessionData: If that is not possible, or it could not be read.
        """
        return self.confirm(value, self.draft(value))

    def draft(self, value: dict[str, Any]) -> bytes:
        """The bytes of data.

        Raises:
            InvalidSessionData: If it cannot be encoded.
            InvalidArgumentType: If what encodes it does not give bytes.
        """
        try:
            encoded = self._dumps(value)
        except (MemoryError, InvalidSessionData):
            raise
        except Exception as error:  # noqa: BLE001 (a serializer may raise anything)
            reason = f"the serializer raised {type(error).__name__}"
        else:
            if not isinstance(encoded, bytes):
                raise InvalidArgumentType(
                    f"dumps of a serializer must return bytes, not {type(encoded).__name__}"
                )
            return encoded
        # Outside of `except`, since the serializer's own error may quote data.
        raise InvalidSessionData(reason, culprit(value, self._is_refused))

    def confirm(self, value: dict[str, Any], draft: bytes) -> bytes:
        """The bytes of data, once they were read.

        Raises:
            InvalidSessionData: If that is not possible, or would not be under other circumstances.
        """
        if is_too_deep(value):
            raise InvalidSessionData(_TOO_DEEP, culprit(value, is_too_deep))
        if not self._reads(draft):
            raise InvalidSessionData(
                "the serializer does not read what it wrote", culprit(value, self._is_refused)
            )
        return draft

    def _reads(self, encoded: bytes) -> bool:
        try:
            return isinstance(self.loads(encoded), dict)
        except Exception:  # noqa: BLE001
            return False

    def _is_refused(self, value: dict[str, Any]) -> bool:
        try:
            return not self._reads(self._dumps(value))
        except Exception:  # noqa: BLE001
            return True


class TextSerializer:
    """A serializer that encodes to text, as UTF-8."""

    def __init__(self, encoder: Callable[[object], str], decoder: Callable[[str], Any]) -> None:
        self._encoder = encoder
        self._decoder = decoder

    def dumps(self, value: dict[str, Any], /) -> bytes:
        return self._encoder(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return self._decoder(data.decode())


def checked_serializer(serializer: Serializer | None) -> JSONSerializer | Verified:
    """The serializer given, or the default.

    Raises:
        InvalidArgumentType: If it does not have both methods.
    """
    if serializer is None:
        return JSONSerializer()
    if isinstance(serializer, (JSONSerializer, Verified)):
        return serializer
    if not isinstance(serializer, Serializer):
        raise InvalidArgumentType(
            f"serializer must have dumps and loads; {type(serializer).__name__} has not both"
        )
    return Verified(serializer.dumps, serializer.loads)


_Decode = Callable[[bytes], Any]

_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=scalar).encode


def _fastest() -> tuple[Callable[[Any], bytes], _Decode, bytes | None]:
    """What encodes and decodes JSON, and what the first of them writes for what JSON does not have."""
    try:
        orjson = import_module("orjson")
    except ImportError:
        pass
    else:
        strict = (
            orjson.OPT_PASSTHROUGH_DATETIME
            | orjson.OPT_PASSTHROUGH_DATACLASS
            | orjson.OPT_PASSTHROUGH_SUBCLASS
        )
        return partial(orjson.dumps, option=strict), orjson.loads, b"null"  # for NaN

    def encode(value: Any) -> bytes:
        return _dump(value).encode()

    try:
        return encode, import_module("msgspec.json").decode, None  # its encoder supports far more types
    except ImportError:
        return encode, json.loads, None
