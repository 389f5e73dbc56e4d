"""Checked arguments: ids, subjects, numbers and durations."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256

from .errors import InvalidArgument, InvalidArgumentType, InvalidSessionId

MAX_ID_BYTES = 4096
MAX_SUBJECT = 255
MAX_LABELS = 16
MAX_CLIENT = 8192  # characters of JSON
MAX_BATCH = 10_000
MAX_DURATION = 1000 * 365.25 * 24 * 3600  # 1,000 years, so that every expiry is a valid datetime
RESERVED = "\x1f"
"""What the subjects of our own begin with, and no user's: a control character, Unit Separator."""

_SECOND = 1_000_000


def digest(id: str) -> bytes:
    """SHA-256 of a session id, which a storage keeps in its place.

    Raises:
        InvalidSessionId: If the id is empty, longer than 4,096 bytes, or cannot be encoded.
        InvalidArgumentType: If the id is not a string.
    """
    if isinstance(id, str) and id.isascii() and 0 < len(id) <= MAX_ID_BYTES:  # nearly every id
        return sha256(id.encode()).digest()
    return sha256(encoded_id(id)).digest()


def encoded_id(id: str) -> bytes:
    """A session id as bytes, checked as for `digest`."""
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
    return encoded


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


def is_reserved(subject: str | None) -> bool:
    """Whether a subject is of what is kept beside sessions, and of no user."""
    return subject is not None and subject.startswith(RESERVED)


def checked_subject(subject: str) -> str:
    """Check a subject.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If it is empty, longer than 255 characters, has NUL or a lone surrogate.
    """
    return _name("subject", subject)


def checked_label(label: str) -> str:
    """Check a label, as for `checked_subject`."""
    return _name("label", label)


def _name(kind: str, name: str) -> str:
    if not isinstance(name, str):
        raise InvalidArgumentType(f"{kind} must be a str, not {type(name).__name__}")
    if not 0 < len(name) <= MAX_SUBJECT or "\0" in name:
        raise InvalidArgument(f"{kind} must hold 1 to {MAX_SUBJECT} characters and no NUL")
    utf8(kind, name)
    return name


def checked_labels(labels: Collection[str]) -> tuple[str, ...]:
    """Check the labels of a session; each once, in their order.

    Raises:
        InvalidArgumentType: If it is no collection of strings.
        InvalidArgument: If one is no label, or there are more than 16.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Collection):
        raise InvalidArgumentType(f"labels must be a collection of strings, not {type(labels).__name__}")
    checked = tuple(sorted({checked_label(label) for label in labels}))
    if len(checked) > MAX_LABELS:
        raise InvalidArgument(f"labels must be at most {MAX_LABELS}, not {len(checked)}")
    return checked


def label_digest(label: str) -> bytes:
    """SHA-256 of a label, by which sessions are found."""
    return sha256(label.encode()).digest()


def checked_client(client: Mapping[str, str] | None) -> str | None:
    """Check what is known of a client, and give it as JSON; None if nothing is.

    Raises:
        InvalidArgumentType: If it is no mapping of strings to strings.
        InvalidArgument: If it is too large.
    """
    if client is None:
        return None
    if not isinstance(client, Mapping) or not all(
        isinstance(text, str) for item in client.items() for text in item
    ):
        raise InvalidArgumentType("client must be a mapping of strings to strings, or None")
    encoded = json.dumps(dict(client), separators=(",", ":"))
    if len(encoded) > MAX_CLIENT:
        raise InvalidArgument(f"client must take at most {MAX_CLIENT} characters as JSON, not {len(encoded)}")
    return encoded if client else None


def utf8(name: str, text: str) -> bytes:
    """A text as UTF-8.

    Raises:
        InvalidArgument: If it has a lone surrogate.
    """
    with suppress(UnicodeEncodeError):
        return text.encode()
    # After the handler, since the codec's error quotes the text and would be the context of this one.
    raise InvalidArgument(f"{name} must be encodable as UTF-8; this one has a lone surrogate")


def moment(name: str, value: datetime) -> datetime:
    """Check a point in time.

    Raises:
        InvalidArgumentType: If it is not a datetime.
        InvalidArgument: If it has no time zone.
    """
    if not isinstance(value, datetime):
        raise InvalidArgumentType(f"{name} must be a datetime or None, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidArgument(f"{name} must have a time zone, as in datetime.now(UTC)")
    return value


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
