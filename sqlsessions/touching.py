"""The touch policy: when extending a session, or its cookie, or noting that it is used, is worth a write."""

from __future__ import annotations

SHARE = 20
"""An extension is written once it gains a 20th, 5 %, of the idle timeout."""


def is_worth_writing(before: int | None, after: int | None, idle: int | None) -> bool:
    """Whether to write that something ends later.

    Args:
        before: Its end as it is stored, in microseconds since 1970; None is never.
        after: Its new end.
        idle: The idle timeout in microseconds; None is none.
    """
    if before == after or before is None:
        return False
    if after is None or idle is None:
        return True
    return (after - before) * SHARE >= idle


def is_use_due(used_at: int, now: int, every: int | None) -> bool:
    """Whether to write that a session is used.

    Args:
        used_at: When it was used last, as that is stored, in microseconds since 1970.
        now: The time.
        every: The storage's ``touch_every`` in microseconds; None is never.
    """
    return every is not None and now - used_at >= every
