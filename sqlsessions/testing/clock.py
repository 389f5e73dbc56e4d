"""`ManualClock`: time that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is told to move; pass it as a storage's ``clock``.

    Args:
        start: Where it begins: an aware datetime, by default some moment of 2026 with a fraction of
            a second. It is exact to the microsecond.
    """

    def __init__(self, start: datetime = datetime(2026, 3, 29, 0, 59, 58, 765_432, tzinfo=UTC)) -> None:
        self.now = start

    def __call__(self) -> float:
        """Seconds since 1970 UTC."""
        return (self.now - _EPOCH) / timedelta(seconds=1)

    def advance(self, seconds: float) -> None:
        """Move on by some seconds, back if negative."""
        self.now += timedelta(seconds=seconds)
