"""Records of sessions: their lifetime, and the effect of writes and touches on them.

Times here are integer microseconds since 1970 UTC, or None for never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ._validation import (
    MAX_BATCH,
    checked_subject,
    digest,
    duration,
    key_digest,
    key_digests,
    positive,
    required_duration,
    seconds,
)
from .errors import InvalidArgument, InvalidArgumentType
from .info import SessionInfo
from .storage import DEFAULT, KEEP, Default, Duration, Keep

__all__ = [
    "FORWARDING",
    "MAX_BATCH",
    "PLAIN",
    "TWO_WEEKS",
    "Clock",
    "Lifetime",
    "Options",
    "Record",
    "as_datetime",
    "checked_subject",
    "digest",
    "duration",
    "earliest",
    "from_datetime",
    "key_digest",
    "key_digests",
    "later",
    "microseconds",
    "positive",
    "required_duration",
    "seconds",
    "written",
]

Clock = Callable[[], float]
"""Seconds since 1970 UTC, as `time.time` gives them."""

TWO_WEEKS = 14 * 24 * 60 * 60.0
FORWARDING = 60 * 1_000_000
"""Microseconds for which a storage knows where a session went whose id was changed."""

TOUCH_SHARE = 20  # a touch is written once it gains a 20th, 5 %, of the idle timeout

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(clock: Clock) -> int:
    """The time of a clock."""
    return round(clock() * _SECOND)


@dataclass(frozen=True, slots=True)
class Options:
    """The checked arguments of a write, durations in microseconds."""

    ttl: int | Default | None
    max_age: int | Default | None
    subject: str | Keep | None
    if_match: int | None

    @classmethod
    def checked(
        cls,
        ttl: Duration | Default | None,
        max_age: Duration | Default | None,
        subject: str | Keep | None,
        if_match: int | None,
    ) -> Options:
        """Check the arguments; the defaults cost nothing."""
        if ttl is DEFAULT and max_age is DEFAULT and subject is KEEP and if_match is None:
            return PLAIN
        if if_match is not None and (not isinstance(if_match, int) or isinstance(if_match, bool)):
            raise InvalidArgumentType(f"if_match must be None, 0 or a version, not {type(if_match).__name__}")
        if if_match is not None and not 0 <= if_match < 1 << 63:
            raise InvalidArgument("if_match must be None, 0 or a version: a positive 63-bit integer")
        return cls(
            ttl if ttl is DEFAULT else duration("ttl", ttl),
            max_age if max_age is DEFAULT else duration("max_age", max_age),
            subject if subject is None or subject is KEEP else checked_subject(subject),
            if_match,
        )

    @classmethod
    def over(cls, version: int) -> Options:
        """The options of a write over a live session of a version."""
        return cls.checked(DEFAULT, DEFAULT, KEEP, positive("if_match", version))


PLAIN = Options(DEFAULT, DEFAULT, KEEP, None)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A storage's settings for new sessions, in microseconds; None is never."""

    ttl: int | None
    max_age: int | None

    @classmethod
    def checked(cls, ttl: Duration | None, max_age: Duration | None) -> Lifetime:
        """Check the arguments of a storage."""
        return cls(duration("ttl", ttl), duration("max_age", max_age))


def earliest(*times: int | None) -> int | None:
    """The earliest of some times; None is never."""
    return min((time for time in times if time is not None), default=None)


def later(time: int, span: int | None) -> int | None:
    """The time after a span; None if the span is endless."""
    return None if span is None else time + span


@dataclass(slots=True)  # not frozen, which would make it three times as slow to make
class Record:
    """A session without its data, as a storage keeps it. Never changed once made.

    Attributes:
        ttl: The session's own idle timeout.
        ends_at: Its absolute end, fixed when it was created.
    """

    version: int
    size: int
    subject: str | None
    created_at: int
    updated_at: int
    expires_at: int | None
    ttl: int | None
    ends_at: int | None

    def live(self, now: int) -> bool:
        """Whether the session has not expired."""
        return self.expires_at is None or self.expires_at > now

    def touched(self, now: int, ttl: int | Default | None) -> Record:
        """The record after a touch: itself if the change is too small to be written."""
        idle = self.ttl if ttl is DEFAULT else ttl
        expires_at = earliest(later(now, idle), self.ends_at)
        if self.expires_at is None or (expires_at is not None and expires_at < self.expires_at):
            expires_at = self.expires_at
        if idle == self.ttl and not _worth_writing(self.expires_at, expires_at, idle):
            return self
        return replace(self, ttl=idle, expires_at=expires_at)

    def info(self, digest: bytes) -> SessionInfo:
        """The session's info for callers."""
        return SessionInfo(
            key=digest.hex(),
            version=self.version,
            size=self.size,
            created_at=as_datetime(self.created_at),
            updated_at=as_datetime(self.updated_at),
            expires_at=None if self.expires_at is None else as_datetime(self.expires_at),
            subject=self.subject,
        )


def written(
    old: Record | None, options: Options, now: int, version: int, size: int, defaults: Lifetime
) -> Record:
    """The record after a write.

    Args:
        old: The live record that is replaced; None for a new session.
        options: The options of the call.
        now: The time of the write.
        version: The new version.
        size: Size of the data, in bytes.
        defaults: The storage's settings for new sessions.
    """
    created_at = old.created_at if old else now
    if options.ttl is DEFAULT:
        ttl = old.ttl if old else defaults.ttl
    else:
        ttl = options.ttl
    if options.max_age is DEFAULT:
        ends_at = old.ends_at if old else later(now, defaults.max_age)
    else:
        ends_at = later(created_at, options.max_age)
    if options.subject is KEEP:
        subject = old.subject if old else None
    else:
        subject = options.subject
    return Record(
        version=version,
        size=size,
        subject=subject,
        created_at=created_at,
        # Always later than created_at, so that the two are equal only in a session that was never rewritten.
        updated_at=max(now, created_at + 1) if old else now,
        expires_at=earliest(later(now, ttl), ends_at),
        ttl=ttl,
        ends_at=ends_at,
    )


def as_datetime(time: int) -> datetime:
    """A time as an aware datetime, exact to the microsecond."""
    return _EPOCH + timedelta(microseconds=time)


def from_datetime(moment: datetime) -> int:
    """The time of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _worth_writing(old: int | None, new: int | None, idle: int | None) -> bool:
    if old == new or old is None:
        return False
    if new is None or idle is None:
        return True
    return (new - old) * TOUCH_SHARE >= idle
