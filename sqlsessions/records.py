"""What storages that keep records share: ids, versions, checked arguments, expiry.

Times here are integer microseconds since 1970 UTC, or None for never.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from threading import Lock
from weakref import WeakKeyDictionary

from .checks import MAX_BATCH, duration, positive, required_duration, seconds
from .errors import InvalidArgument, InvalidArgumentType, InvalidSessionId
from .storage import DEFAULT, KEEP, Default, Duration, Keep, SessionInfo

__all__ = [
    "MAX_BATCH",
    "PLAIN",
    "TWO_WEEKS",
    "Clock",
    "Lifetime",
    "Options",
    "Record",
    "Versions",
    "as_datetime",
    "checked_subject",
    "digest",
    "duration",
    "earliest",
    "first_version",
    "from_datetime",
    "key_digest",
    "later",
    "microseconds",
    "positive",
    "required_duration",
    "seconds",
    "version_time",
    "written",
]

Clock = Callable[[], float]
"""Seconds since 1970 UTC, as `time.time` gives them."""

MAX_ID_BYTES = 4096
MAX_SUBJECT = 255
TWO_WEEKS = 14 * 24 * 60 * 60.0
TOUCH_SHARE = 20  # a touch is written once it gains a 20th, 5 %, of the idle timeout

_SECOND = 1_000_000
_RANDOM_BITS = 21  # 42 bits of milliseconds above them last until the year 2109
_MAX_VERSION = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def digest(id: str) -> bytes:
    """SHA-256 of a session id: what a storage keeps instead of it.

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
    if encoded is None:  # raised out here, since the codec's error, which would be its context, quotes the id
        raise InvalidSessionId("a session id must be encodable as UTF-8; this one is not")
    if not 0 < len(encoded) <= MAX_ID_BYTES:
        raise InvalidSessionId(
            f"a session id must hold 1 to {MAX_ID_BYTES} bytes of UTF-8, not {len(encoded)}"
        )
    return sha256(encoded).digest()


def key_digest(key: str) -> bytes | None:
    """The digest that a `SessionInfo.key` stands for; None if it can be nobody's key."""
    if not isinstance(key, str):
        raise InvalidArgumentType(f"key must be a str, not {type(key).__name__}")
    try:
        value = bytes.fromhex(key)
    except ValueError:
        return None
    return value if len(value) == sha256().digest_size else None


def microseconds(clock: Clock) -> int:
    """The time of a clock."""
    return round(clock() * _SECOND)


class Versions:
    """Makes versions: milliseconds in the high bits, random low bits, always increasing."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = Lock()

    @classmethod
    def of(cls, clock: Clock) -> Versions:
        """The versions that all storages of this process with this clock share."""
        try:
            return _versions.setdefault(clock, cls())
        except TypeError:  # not every callable can be a weak key
            return cls()

    def next(self, now: int) -> int:
        """A version for a write at this time."""
        first = now // 1000 << _RANDOM_BITS
        with self._lock:
            if self._last < first:  # from the lower half, so that thousands fit into a millisecond
                self._last = first + random.getrandbits(_RANDOM_BITS - 1)
            else:
                self._last += 1 + random.getrandbits(8)
            return self._last


_versions: WeakKeyDictionary[Clock, Versions] = WeakKeyDictionary()


def version_time(version: int) -> int:
    """When a version was made, to the millisecond."""
    return (version >> _RANDOM_BITS) * 1000


def first_version(time: int) -> int:
    """The smallest version that could have been made at a time."""
    return min(time // 1000 << _RANDOM_BITS, _MAX_VERSION)


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
        """Check the arguments; the ones that every write has are free."""
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


def checked_subject(subject: str) -> str:
    """The subject, if it is one.

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


def earliest(*times: int | None) -> int | None:
    """The first of some times, of which None is never."""
    return min((time for time in times if time is not None), default=None)


def later(time: int, span: int | None) -> int | None:
    """A time that is a span later; None if the span is endless."""
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
        """The record after a touch: itself if there is nothing worth writing."""
        idle = self.ttl if ttl is DEFAULT else ttl
        expires_at = earliest(later(now, idle), self.ends_at)
        if self.expires_at is None or (expires_at is not None and expires_at < self.expires_at):
            expires_at = self.expires_at
        if idle == self.ttl and not _worth_writing(self.expires_at, expires_at, idle):
            return self
        return replace(self, ttl=idle, expires_at=expires_at)

    def info(self, digest: bytes) -> SessionInfo:
        """What callers see of it."""
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
        options: What the call asked for.
        now: When it is written.
        version: Its new version.
        size: Bytes of its data.
        defaults: The storage's own settings, for a new session.
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
        # Later than created_at in any case, so that the two are the same only in a session never rewritten.
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
