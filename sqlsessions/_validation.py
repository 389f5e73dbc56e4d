"""Checked arguments: ids, subjects, numbers and durations."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from datetime import timedelta
from hashlib import sha256

from .errors import InvalidArgument, InvalidArgumentType, InvalidSessionId

MAX_ID_BYTES = 4096
MAX_SUBJECT = 255
MAX_BATCH = 10_000
MAX_DURATION = 1000 * 365.25 * 24 * 3600  # 1,000 years, so that every expiry is a valid datetime

_SECOND = 1_000_000


def digest(id: str) -> bytes:
    """SHA-256 of a session id, which a storage keeps in its place.

    Raises:
        InvalidSessionId: If the id is empty, longer than 4,096 bytes, or cannot be encoded.
        InvalidArgumentType: If the id is not a string.
    """
    if not isinstance(id, str):
        raise InvalidArgumentType(f"a session id must be a str, not {type(id).__name__}")
    try:
        encoded = id.encode()
    except UnicodeEncodeError:
        encoded = None
    if (
        encoded is None
    ):  # raised outside the handler, since the codec's error quotes the id and would be its context
        raise InvalidSessionId("a session id must be encodable as UTF-8; this one is not")
    if not 0 < len(encoded) <= MAX_ID_BYTES:
        raise InvalidSessionId(
            f"a session id must hold 1 to {MAX_ID_BYTES} bytes of UTF-8, not {len(encoded)}"
        )
    return sha256(encoded).digest()


def key_digest(key: str) -> bytes | None:
    """The digest of a `SessionInfo.key`; None if it is not of that form.

    Raises:
        InvalidArgumentType: If the key is not a string.
    """
    if not isinstance(key, str):
        raise InvalidArgumentType(f"key must be a str, not {type(key).__name__}")
    try:
        value = bytes.fromhex(key)
    except ValueError:
        return None
    return value if len(value) == sha256().digest_size else None


def key_digests(keys: Collection[str]) -> list[bytes]:
    """The digests of those keys that are keys.

    Raises:
        InvalidArgumentType: If it is no collection of strings.
    """
    if isinstance(keys, str):
        raise InvalidArgumentType("keys must be a collection of keys, not a str")
    return [digest for key in keys if (digest := key_digest(key)) is not None]


def checked_subject(subject: str) -> str:
    """Check a subject.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If it is empty, longer than 255 characters, has NUL or a lone surrogate.
    """
    if not isinstance(subject, str):
        raise InvalidArgumentType(f"subject must be a str, not {type(subject).__name__}")
    if not 0 < len(subject) <= MAX_SUBJECT or "\0" in subject:
        raise InvalidArgument(f"subject must hold 1 to {MAX_SUBJECT} characters and no NUL")
    if any("\ud800" <= character <= "\udfff" for character in subject):
        raise InvalidArgument("subject must be encodable as UTF-8; this one has a lone surrogate")
    return subject


def duration(name: str, value: float | timedelta | None) -> int | None:
    """Check a ttl or max_age; returns microseconds.

    Raises:
        InvalidArgumentType: If it is neither a number, a timedelta nor None.
        InvalidArgument: If it is not above 0 and at most 1,000 years.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise InvalidArgumentType(
            f"{name} must be seconds, a timedelta or None for never, not {type(value).__name__}"
        )
    if not (math.isfinite(seconds) and 1 / _SECOND <= seconds <= MAX_DURATION):
        raise InvalidArgument(
            f"{name} must be above 0 and at most 1,000 years, not {seconds} seconds; None is never"
        )
    return round(seconds * _SECOND)


def required_duration(name: str, value: float | timedelta) -> int:
    """Check a duration that cannot be endless; returns microseconds."""
    if (span := duration(name, value)) is None:
        raise InvalidArgument(f"{name} must be a number of seconds or a timedelta, not None")
    return span


def positive(name: str, value: int, most: int | None = None) -> int:
    """Check a whole number of at least 1.

    Raises:
        InvalidArgumentType: If it is not a whole number.
        InvalidArgument: If it is below 1 or above most.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidArgumentType(f"{name} must be an int, not {type(value).__name__}") from None
    if number < 1 or (most is not None and number > most):
        raise InvalidArgument(
            f"{name} must be at least 1{f' and at most {most}' if most else ''}, not {value}"
        )
    return number


def seconds(name: str, value: float, most: float = math.inf) -> float:
    """Check a time to wait, in seconds.

    Raises:
        InvalidArgumentType: If it is not a number.
        InvalidArgument: If it is not above 0 and finite, or above most.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidArgumentType(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"{name} must be above 0 and finite, not {value} seconds")
    if value > most:
        raise InvalidArgument(f"{name} must be at most {most:g} seconds, not {value}")
    return value
