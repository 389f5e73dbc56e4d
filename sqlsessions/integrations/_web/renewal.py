"""When a session is extended, and when its cookie is sent again so that the browser keeps it as long.

A cookie ends with its session as that stood when the cookie was sent, and each response that extends the
session sends it. Its end is another in two cases: a session that is written after its response began outlasts
the cookie, so that the end of the cookie is stored with the data; and browsers keep no cookie for more than
400 days after it was sent, which was at the last write or later.
"""

from __future__ import annotations

from datetime import timedelta

from ...info import SessionInfo
from ...records import Clock, from_datetime, microseconds
from .cookies import LONGEST_AGE
from .session import UNSET, State

SHARE = 20  # a session or cookie is extended once that gains a 20th, 5 %, of its time
_LONGEST = LONGEST_AGE * 1_000_000
_LONGEST_SPAN = timedelta(seconds=LONGEST_AGE)
_TOLERANCE = timedelta(seconds=1)


class Renewal:
    """Decides what is worth a write.

    Args:
        max_age: Idle timeout of sessions that have none of their own, in microseconds; None is the storage's.
        absolute: Their absolute timeout in microseconds; None is the storage's.
        clock: Gives the time in seconds.
    """

    def __init__(self, max_age: int | None, absolute: int | None, clock: Clock) -> None:
        self._max_age = max_age
        self._absolute = absolute
        self._clock = clock

    def is_touch_due(self, state: State, info: SessionInfo) -> bool:
        """Whether to extend a session that was accessed."""
        idle = self._idle(state)
        if info.expires_at is None or (idle is None and state.ttl is not UNSET):
            return False
        if idle is None:  # the storage's own, which is at most this
            idle = from_datetime(info.expires_at) - from_datetime(info.updated_at)
        until = microseconds(self._clock) + idle
        if self._absolute is not None:
            until = min(until, from_datetime(info.created_at) + self._absolute)
        return (until - from_datetime(info.expires_at)) * SHARE >= idle

    def is_write_due(self, state: State, info: SessionInfo) -> bool:
        """Whether a persistent cookie calls for a write of a session that did not change.

        A touch would not do: it extends no session whose own end is not near, and after the response it would
        leave no note of the cookie's end.
        """
        if state.answered:
            return self.is_touch_due(state, info)
        follows = info.expires_at is not None and info.expires_at - info.updated_at <= _LONGEST_SPAN
        if follows and state.cookie_until is UNSET:
            return False
        now, idle = microseconds(self._clock), self._idle(state)
        until = now + (_LONGEST if idle is None else min(idle, _LONGEST))
        if self._absolute is not None:
            until = min(until, from_datetime(info.created_at) + self._absolute)
        if info.expires_at is not None and _is_capped(info, idle):
            until = min(until, from_datetime(info.expires_at))
        return (until - _cookie_until(state, info)) * SHARE >= until - now

    def note_cookie(self, state: State, info: SessionInfo, *, persistent: bool) -> bool:
        """Before a write, note in the state until when the browser keeps the cookie, if that is not sent.

        Args:
            state: The session's state.
            info: The session that is written over.
            persistent: Whether the cookie outlasts the browser.

        Returns:
            Whether the note changed, so that the data has to be encoded again.
        """
        before = state.cookie_until
        state.cookie_until = _cookie_until(state, info) if state.answered and persistent else UNSET
        return bool(state.cookie_until != before)

    def _idle(self, state: State) -> int | None:
        idle: int | None = self._max_age if state.ttl is UNSET else state.ttl
        return idle


def _cookie_until(state: State, info: SessionInfo) -> int:
    """Until when the browser keeps the cookie at least, in microseconds since 1970."""
    if state.cookie_until is not UNSET:
        until: int = state.cookie_until
        return until
    longest = from_datetime(info.updated_at) + _LONGEST
    return longest if info.expires_at is None else min(from_datetime(info.expires_at), longest)


def _is_capped(info: SessionInfo, idle: int | None) -> bool:
    """Whether an absolute timeout, such as the storage's, ends the session before its idle timeout does."""
    assert info.expires_at is not None
    return idle is None or info.expires_at - info.updated_at < timedelta(microseconds=idle) - _TOLERANCE
