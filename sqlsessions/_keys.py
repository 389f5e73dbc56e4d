"""Secret keys as callers give them: checked, never shown."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import InvalidArgument, InvalidArgumentType

__all__ = ["KEY_BYTES", "Keys", "checked_keys", "keys_from_environment", "keys_from_file"]

KEY_BYTES = 32

Keys = Sequence[bytes | str] | Callable[[], Sequence[bytes | str]]
"""Keys of 32 bytes, or base64 text of them, the one to use first; or a function that gives them."""


def checked_keys(keys: Keys) -> tuple[bytes, ...]:
    """Check keys. No message holds any of one.

    Raises:
        InvalidArgumentType: If it is no list of bytes or text.
        InvalidArgument: If there is none, one does not hold 32 bytes, or one is there twice.
    """
    given = keys() if callable(keys) else keys
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Sequence):
        raise InvalidArgumentType(
            f"keys must be a list of keys, or a function that gives one, not {type(given).__name__}"
        )
    if not given:
        raise InvalidArgument("keys must hold at least one key: `sqlsessions new-key` makes one")
    found = tuple(_checked_key(number, key) for number, key in enumerate(given, 1))
    if len(set(found)) < len(found):
        raise InvalidArgument("keys holds a key twice")
    return found


def keys_from_environment(name: str) -> list[str]:
    """Keys from a variable of the environment, separated by commas or spaces, the one to use first.

    Raises:
        InvalidArgument: If it is not set, or empty.
    """
    if not (keys := _parts(os.environ.get(name, ""))):
        raise InvalidArgument(f"the variable {name} holds no keys: `sqlsessions new-key` makes one")
    return keys


def keys_from_file(path: str | os.PathLike[str]) -> list[str]:
    """Keys from a text file, one a line, the one to use first; what begins with ``#`` is a comment.

    Raises:
        InvalidArgument: If it cannot be read, or holds no keys.
    """
    try:
        lines = Path(path).read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise InvalidArgument(f"cannot read keys from {os.fspath(path)!r}: {reason}") from None
    if not (keys := _parts("\n".join(line.partition("#")[0] for line in lines))):
        raise InvalidArgument(f"{os.fspath(path)!r} holds no keys: `sqlsessions new-key` makes one")
    return keys


def _parts(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _checked_key(number: int, key: bytes | str) -> bytes:
    if isinstance(key, str):
        # Both alphabets of base64, with or without padding.
        text = key.strip().rstrip("=").replace("-", "+").replace("_", "/")
        try:
            value = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):  # whose message may tell of the key
            value = None
        if value is None:
            raise InvalidArgument(
                f"key {number} of keys is text, but not base64: `sqlsessions new-key` makes one"
            )
    elif isinstance(key, (bytes, bytearray)):
        value = bytes(key)
    else:
        raise InvalidArgumentType(
            f"key {number} of keys must be bytes or base64 text, not {type(key).__name__}"
        )
    if len(value) != KEY_BYTES:
        raise InvalidArgument(f"key {number} of keys must hold {KEY_BYTES} bytes, not {len(value)}")
    return value
