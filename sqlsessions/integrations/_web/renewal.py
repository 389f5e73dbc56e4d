"""When a session is extended, and when its cookie is sent again so that the browser keeps it as long.

A cookie ends with its session as that stood when the cookie was sent. A touch that extends the session sends it,
and so does the first write of each 20th of the session's time since it was created. Other writes do not: responses
overtake each other, and one that sets the cookie of a session which got a new id meanwhile, as by a login, would
take the new one away from the browser.

The end of the cookie is stored with the data by writes after the response began, which cannot send it. And browsers
keep no cookie for more than 400 days after it was sent.
"""

from __future__ import annotations

from datetime import timedelta

from ...info import SessionInfo
from ...records import Clock, from_datetime, microseconds
from ...storage import DEFAULT, Default
from ...touching import SHARE, is_use_due, is_worth_writing
from .cookies import LONGEST_AGE
from .state import UNSET, State
from .timeouts import Timeouts

_LONGEST = LONGEST_AGE * 1_000_000
_LONGEST_SPAN = timedelta(seconds=LONGEST_AGE)
_SLACK = 1_000_000
_TOLERANCE = timedelta(microseconds=_SLACK)


class Renewal:
    """Decides what is worth a write.

    Args:
        timeouts: How long sessions last that have no timeout of their own.
        default: The storage's idle timeout in microseconds, None for none; DEFAULT if it is not known.
        clock: Gives the time in seconds.
        every: The storage's ``touch_every`` in microseconds; None if it has none.
    """

    def __init__(
        self, timeouts: Timeouts, default: int | Default | None, clock: Clock, every: int | None
    ) -> None:
        self._timeouts = timeouts
        self._idle = default if timeouts.idle is DEFAULT else timeouts.idle
        self._anonymous = self._idle if timeouts.anonymous is DEFAULT else timeouts.anonymous
        self._absolute = timeouts.absolute
        self._clock = clock
        self._every = every

    def idle_to_write(
        self, state: State, over: SessionInfo | None, subject: str | None
    ) -> int | Default | None:
        """The idle timeout that a write gives a session.

        Args:
            state: The session's state.
            over: The session that is written over; None for a new one.
            subject: The subject that it has with the write.

        Returns:
            Microseconds, or None for none; DEFAULT is the session's own, or for a new one the storage's.
        """
        if over is not None and not state.expiry_requested and not self._changes_kind(state, over):
            return DEFAULT
        idle: int | Default | None = self._timeouts.idle_of(subject) if state.ttl is UNSET else state.ttl
        return idle

    def is_touch_due(self, state: State, info: SessionInfo) -> bool:
        """Whether to touch a session that was accessed: to extend it, or to note that it is used."""
        return self._is_extension_due(state, info) or self.is_use_due(info)

    def is_use_due(self, info: SessionInfo) -> bool:
        """Whether to note that a session is used."""
        if self._every is None or info.used_at is None:
            return False
        return is_use_due(from_datetime(info.used_at), microseconds(self._clock), self._every)

    def _is_extension_due(self, state: State, info: SessionInfo) -> bool:
        idle = self._idle_of(state, info)
        if info.expires_at is None or idle is None:
            return False
        if idle is DEFAULT:  # it is at most this
            idle = from_datetime(info.expires_at) - from_datetime(info.updated_at)
        until = microseconds(self._clock) + idle
        if self._absolute is not None:
            until = min(until, from_datetime(info.created_at) + self._absolute)
        return is_worth_writing(from_datetime(info.expires_at), until, idle)

    def is_write_due(self, state: State, info: SessionInfo) -> bool:
        """Whether a persistent cookie calls for a write of a session that did not change.

        A touch would not do: it extends no session whose own end is not near, and after the response it would
        leave no note of the cookie's end.
        """
        if self._changes_kind(state, info):
            return True
        if state.answered:
            return self._is_extension_due(state, info)
        follows = info.expires_at is not None and info.expires_at - info.updated_at <= _LONGEST_SPAN
        if follows and state.cookie_until is UNSET:
            return False
        now, idle = microseconds(self._clock), self._idle_of(state, info)
        until = now + (min(idle, _LONGEST) if isinstance(idle, int) else _LONGEST)
        if self._absolute is not None:
            until = min(until, from_datetime(info.created_at) + self._absolute)
        if info.expires_at is not None and _is_capped(info, idle):
            until = min(until, from_datetime(info.expires_at))
        return is_worth_writing(_cookie_until(state, info), until, until - now)

    def note_cookie(self, state: State, info: SessionInfo, *, persistent: bool) -> bool:
        """Before a write, note in the state until when the browser keeps the cookie, if that is to be stored.

        Args:
            state: The session's state.
            info: The session that is written over.
            persistent: Whether the cookie outlasts the browser.

        Returns:
            Whether the note changed, so that the data has to be encoded again.
        """
        before = state.cookie_until
        state.cookie_renewed = False
        if not persistent:
            state.cookie_until = UNSET
        elif state.answered:
            state.cookie_until = _cookie_until(state, info)
        elif before is not UNSET and (
            state.cookie_due or state.cookie_requested or self.is_write_due(state, info)
        ):
            state.cookie_until, state.cookie_renewed = UNSET, True
        return bool(state.cookie_until != before)

    def is_cookie_due(self, state: State, over: SessionInfo, info: SessionInfo) -> bool:
        """Whether the response to a write is to send a persistent cookie again.

        Args:
            state: The session's state.
            over: The session that was written over.
            info: The session as written.
        """
        if state.answered or state.cookie_until is not UNSET:
            return False
        if state.cookie_renewed:
            return True
        return gains(over, info)

    def _changes_kind(self, state: State, info: SessionInfo) -> bool:
        """Whether a login gives a guest's session the timeout of users, or a logout the reverse."""
        return (
            self._timeouts.anonymous is not DEFAULT
            and state.subject is not UNSET
            and state.ttl is UNSET
            and (state.subject is None) != (info.subject is None)
        )

    def _idle_of(self, state: State, info: SessionInfo) -> int | Default | None:
        if state.ttl is not UNSET:
            own: int | Default | None = state.ttl
            return own
        return self._anonymous if info.subject is None else self._idle


def gains(over: SessionInfo, info: SessionInfo) -> bool:
    """Whether it is worth it to send a persistent cookie again with a write, of a version over another one."""
    if info.expires_at is not None and info.expires_at == over.expires_at:
        return False  # at its absolute end
    now = from_datetime(info.updated_at)
    until = _longest_until(info, now)
    return is_worth_writing(_sent_until(over, until - now), until, until - now)


def _cookie_until(state: State, info: SessionInfo) -> int:
    """Until when the browser keeps the cookie at least, in microseconds since 1970."""
    if state.cookie_until is not UNSET:
        until: int = state.cookie_until
        return until
    updated = from_datetime(info.updated_at)
    return _sent_until(info, _longest_until(info, updated) - updated)


def _sent_until(info: SessionInfo, life: int) -> int:
    """Until when the browser keeps a cookie at least that touches and writes of such a life have sent."""
    updated = from_datetime(info.updated_at)
    until = _longest_until(info, updated)
    if until - updated > life + _SLACK:  # touched since
        return until
    return min(until, updated - (updated - from_datetime(info.created_at)) % max(1, life // SHARE) + life)


def _longest_until(info: SessionInfo, updated: int) -> int:
    """Until when the browser keeps a cookie if the last write sent it, or a touch since."""
    longest = updated + _LONGEST
    return longest if info.expires_at is None else min(from_datetime(info.expires_at), longest)


def _is_capped(info: SessionInfo, idle: int | Default | None) -> bool:
    """Whether an absolute timeout, such as the storage's, ends the session before its idle timeout does."""
    assert info.expires_at is not None
    return (
        not isinstance(idle, int)
        or info.expires_at - info.updated_at < timedelta(microseconds=idle) - _TOLERANCE
    )
