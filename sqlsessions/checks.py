"""Checked arguments: numbers and durations."""

from __future__ import annotations

import math
import operator
from datetime import timedelta

from .errors import InvalidArgument, InvalidArgumentType

MAX_BATCH = 10_000
MAX_DURATION = 1000 * 365.25 * 24 * 3600  # 1,000 years, so that every expiry is a valid datetime

_SECOND = 1_000_000


def duration(name: str, value: float | timedelta | None) -> int | None:
    """A ttl or max_age in microseconds.

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
    """A duration that cannot be endless, in microseconds."""
    if (span := duration(name, value)) is None:
        raise InvalidArgument(f"{name} must be a number of seconds or a timedelta, not None")
    return span


def positive(name: str, value: int, most: int | None = None) -> int:
    """A whole number of at least 1.

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


def seconds(name: str, value: float) -> float:
    """A time to wait, in seconds.

    Raises:
        InvalidArgumentType: If it is not a number.
        InvalidArgument: If it is not above 0 and finite.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidArgumentType(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidArgument(f"{name} must be above 0 and finite, not {value} seconds")
    return value
