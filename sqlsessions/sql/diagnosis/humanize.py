"""Human-readable sizes, shares and times."""

from __future__ import annotations

from datetime import UTC, datetime

KIB = 1024
_SIZES = ("KiB", "MiB", "GiB", "TiB")
_UNITS = (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("min", 60))


def counted(number: int, noun: str) -> str:
    """Format a number of things: 1 session, 1,200 sessions."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Format a number of bytes: 1.2 KiB."""
    if number < KIB:
        return counted(number, "byte")
    power = next(power for power in (1, 2, 3, 4) if power == len(_SIZES) or number < KIB ** (power + 1))
    amount, unit = number / KIB**power, _SIZES[power - 1]
    return f"{amount:,.0f} {unit}" if amount == int(amount) else f"{amount:,.1f} {unit}"


def share(part: int, whole: int) -> str:
    """Format a share: 12 %."""
    percent = round(100 * part / whole) if whole else 0
    return "< 1 %" if part and not percent else f"{percent} %"


def moment(time: datetime | None) -> str:
    """Format a time: 2030-01-31 12:00:00 UTC."""
    return "never" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def away(time: datetime | None) -> str:
    """Format the distance to a time: 3 min ago, in 13 days."""
    if time is None:
        return "never"
    seconds = (time - datetime.now(UTC)).total_seconds()
    span = abs(seconds)
    # From two of a unit on, so that 90 minutes are not rounded to an hour.
    unit, length = next(((unit, length) for unit, length in _UNITS if span >= 2 * length), ("s", 1))
    amount = f"{round(span / length)} {unit}"
    return f"in {amount}" if seconds > 0 else f"{amount} ago"
