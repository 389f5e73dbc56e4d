"""Records of sessions: their lifetime, and the effect of writes and touches on them.

Times here are integer microseconds since 1970 UTC, or None for never.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard

from ._validation import (
    MAX_BATCH,
    checked_client,
    checked_label,
    checked_labels,
    checked_subject,
    digest,
    duration,
    is_reserved,
    key_digest,
    key_digests,
    label_digest,
    moment,
    positive,
    required_duration,
    seconds,
)
from .errors import InvalidArgument, InvalidArgumentType, TooManySessions
from .info import EndedSession, EndReason, Rebinding, SessionInfo
from .storage import DEFAULT, KEEP, Default, Duration, Keep
from .touching import is_use_due, is_worth_writing

__all__ = [
    "FORWARDING", "MAX_BATCH", "PLAIN", "TWO_WEEKS", "Cap", "Clock", "Lifetime", "Options", "Record",
    "as_datetime", "checked_client", "checked_label", "checked_labels", "checked_subject", "decoded_labels",
    "digest", "duration", "earliest", "encoded_client", "encoded_labels", "ended_session", "from_datetime",
    "key_digest", "key_digests", "label_digest", "later", "microseconds", "moment", "positive", "refuse_both",
    "renamed", "required_duration", "seconds", "written",
]  # fmt: skip

Clock = Callable[[], float]
"""Seconds since 1970 UTC, as `time.time` gives them."""

TWO_WEEKS = 14 * 24 * 60 * 60.0
FORWARDING = 60 * 1_000_000
"""Microseconds for which a storage knows where a session went whose id was changed."""

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def microseconds(clock: Clock) -> int:
    """The time of a clock."""
    return round(clock() * _SECOND)


@dataclass(frozen=True, slots=True)
class Options:
    """The checked arguments of a write, durations in microseconds."""

    ttl: int | Default | None
    max_age: int | Default | None
    subject: str | Keep | None = field(repr=False)
    if_match: int | None
    labels: str | Keep | None = field(default=KEEP, repr=False)
    client: str | Keep | None = field(default=KEEP, repr=False)

    @classmethod
    def checked(
        cls,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
        labels: Collection[str] | Keep = KEEP,
        client: Mapping[str, str] | Keep | None = KEEP,
    ) -> Options:
        """Check the arguments; the defaults cost nothing."""
        named = labels is not KEEP or client is not KEEP
        if ttl is DEFAULT and max_age is DEFAULT and subject is KEEP and if_match is None and not named:
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
            labels if labels is KEEP else encoded_labels(checked_labels(labels)),
            client if client is KEEP else checked_client(client),
        )

    @classmethod
    def over(cls, version: int) -> Options:
        """The options of a write over a live session of a version."""
        return cls.checked(if_match=positive("if_match", version))


PLAIN = Options(DEFAULT, DEFAULT, KEEP, None)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A storage's settings in microseconds; None is never.

    Attributes:
        ttl: Idle timeout of new sessions.
        max_age: Their absolute timeout.
        every: How often at least a touch notes that a session is used, whatever it gains.
    """

    ttl: int | None
    max_age: int | None
    every: int | None = None

    @classmethod
    def checked(
        cls, ttl: Duration | None, max_age: Duration | None, touch_every: Duration | None = None
    ) -> Lifetime:
        """Check the arguments of a storage."""
        every = duration("touch_every", touch_every)
        return cls(duration("ttl", ttl), duration("max_age", max_age), every)

    @property
    def default_ttl(self) -> float | None:
        """The idle timeout in seconds."""
        return None if self.ttl is None else self.ttl / _SECOND

    @property
    def touch_every(self) -> float | None:
        """How often a touch notes a use, in seconds."""
        return None if self.every is None else self.every / _SECOND


@dataclass(frozen=True, slots=True)
class Cap:
    """How many live sessions a subject may have.

    Attributes:
        most: How many.
        refuses: Whether one more is refused; else the oldest ones end for it.
    """

    most: int
    refuses: bool

    @classmethod
    def checked(cls, most: int | None, when_too_many: str) -> Cap | None:
        """Check the arguments of a storage."""
        if when_too_many not in ("end_oldest", "refuse"):
            raise InvalidArgument(f"when_too_many must be 'end_oldest' or 'refuse', not {when_too_many!r}")
        if most is None:
            return None
        return cls(positive("max_sessions_per_subject", most), when_too_many == "refuse")

    def counts(self, subject: object) -> TypeGuard[str]:
        """Whether it counts for what a write makes a session's subject: a user's, not one of our own."""
        return isinstance(subject, str) and not is_reserved(subject)

    def excess(self, own: Sequence[bytes], digest: bytes) -> Sequence[bytes]:
        """Which sessions must end for a subject to have one.

        Args:
            own: Those that it has, the newest first.
            digest: The one that it is to have.

        Raises:
            TooManySessions: If there are too many, and none is to end.
        """
        excess = [each for each in own if each != digest][self.most - 1 :]
        if not (excess and self.refuses):
            return excess
        if digest not in own:
            raise TooManySessions(self.most)
        return []


def earliest(first: int | None, second: int | None) -> int | None:
    """The earlier of two times; None is never."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def later(time: int, span: int | None) -> int | None:
    """The time after a span; None if the span is endless."""
    return None if span is None else time + span


@dataclass(slots=True)  # not frozen, which would make it three times as slow to make
class Record:
    """A session without its data, as a storage keeps it. Never changed once made.

    Attributes:
        ttl: The session's own idle timeout.
        ends_at: Its absolute end, fixed when it was created.
        touched_at: When it was touched last; None if it was not.
        client: What is known of its client, as JSON.
        labels: Its labels, as JSON.
    """

    version: int
    size: int
    expires_at: int | None
    subject: str | None = field(repr=False)
    created_at: int
    updated_at: int
    ttl: int | None
    ends_at: int | None
    touched_at: int | None = None
    client: str | None = field(default=None, repr=False)
    labels: str | None = field(default=None, repr=False)

    @property
    def used_at(self) -> int:
        """When it was written or touched last."""
        return self.updated_at if self.touched_at is None else max(self.updated_at, self.touched_at)

    def live(self, now: int) -> bool:
        """Whether the session has not expired."""
        return self.expires_at is None or self.expires_at > now

    def touched(self, now: int, ttl: int | Default | Keep | None, every: int | None) -> Record:
        """The record after a touch: itself if the change is too small to be written.

        Args:
            now: The time.
            ttl: The new idle timeout; DEFAULT is its own, KEEP extends nothing.
            every: The storage's ``touch_every``. A touch that only this calls for leaves the expiry alone, and with it
                what responses say of cookies.
        """
        idle = self.ttl if ttl is DEFAULT or ttl is KEEP else ttl
        expires_at = earliest(later(now, idle), self.ends_at)
        if (
            ttl is KEEP
            or self.expires_at is None
            or (expires_at is not None and expires_at < self.expires_at)
        ):
            expires_at = self.expires_at
        if idle == self.ttl and not is_worth_writing(self.expires_at, expires_at, idle):
            if not is_use_due(self.used_at, now, every):
                return self
            expires_at = self.expires_at
        return replace(self, ttl=idle, expires_at=expires_at, touched_at=max(now, self.used_at))

    def info(self, digest: bytes) -> SessionInfo:
        """The session's info for callers."""
        updated_at = as_datetime(self.updated_at)
        return SessionInfo(  # by position, which takes three quarters of the time
            digest.hex(),
            self.version,
            self.size,
            as_datetime(self.created_at),
            updated_at,
            None if self.expires_at is None else as_datetime(self.expires_at),
            self.subject,
            updated_at if self.touched_at is None else as_datetime(self.used_at),
            () if self.labels is None else decoded_labels(self.labels),
            None if self.client is None else json.loads(self.client),
        )

    def ended_at(self, reason: EndReason, now: int) -> int:
        """When it ended that ends now: of an expired one, when it expired."""
        return now if reason != "expired" or self.expires_at is None else self.expires_at

    def end(self, digest: bytes, reason: EndReason, now: int) -> EndedSession:
        """The record of its end."""
        times = (self.ended_at(reason, now), self.created_at, self.used_at)
        return ended_session(digest, reason, *times, self.subject, self.client)

    def renamed(self, rebinding: Rebinding) -> Record:
        """The record with the names that a rebinding gives; itself if they are the same."""
        name = rebinding.name
        subject = None if self.subject is None else name(self.subject)
        labels = encoded_labels(sorted(map(name, decoded_labels(self.labels))))
        client = self.client
        if client is not None:
            client = _json({key: name(value) for key, value in json.loads(client).items()})
        if (subject, labels, client) == (self.subject, self.labels, self.client):
            return self
        return replace(self, subject=subject, labels=labels, client=client)


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
    expires_at = None if ttl is None else now + ttl  # which `earliest` would take twice as long to say
    if ends_at is not None and (expires_at is None or ends_at < expires_at):
        expires_at = ends_at
    return Record(
        version=version,
        size=size,
        subject=subject,
        created_at=created_at,
        # Always later than created_at, so that the two are equal only in a session that was never rewritten.
        updated_at=max(now, created_at + 1) if old else now,
        expires_at=expires_at,
        ttl=ttl,
        ends_at=ends_at,
        touched_at=old.touched_at if old else None,
        client=(old.client if old else None) if options.client is KEEP else options.client,
        labels=(old.labels if old else None) if options.labels is KEEP else options.labels,
    )


def ended_session(
    digest: bytes,
    reason: EndReason,
    ended_at: int,
    created_at: int,
    used_at: int,
    subject: str | None,
    client: str | None,
) -> EndedSession:
    """A record of a session's end as callers get it."""
    times = (as_datetime(ended_at), as_datetime(created_at), as_datetime(used_at))
    return EndedSession(digest.hex(), reason, *times, subject, None if client is None else json.loads(client))


def renamed(ended: EndedSession, name: Callable[[str], str]) -> EndedSession:
    """A record of a session's end with other names; itself if they are the same."""
    subject = None if ended.subject is None else name(ended.subject)
    client = ended.client and {key: name(value) for key, value in ended.client.items()}
    if (subject, client) == (ended.subject, ended.client):
        return ended
    return replace(ended, subject=subject, client=client)


def encoded_labels(labels: Sequence[str]) -> str | None:
    """Labels as JSON; None if there are none."""
    return _json(labels) if labels else None


def encoded_client(client: Mapping[str, str] | None) -> str | None:
    """What is known of a client as JSON; None if nothing is."""
    return None if client is None else _json(dict(client))


def decoded_labels(labels: str | None) -> tuple[str, ...]:
    """The labels of a `Record`."""
    return () if labels is None else tuple(json.loads(labels))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def refuse_both(subject: str | None, label: str | None) -> None:
    """Refuse a list of sessions by both a subject and a label.

    Raises:
        InvalidArgument: If there are both.
    """
    if subject is not None and label is not None:
        raise InvalidArgument("sessions takes a subject or a label, not both")


def as_datetime(time: int) -> datetime:
    """A time as an aware datetime, exact to the microsecond; one that is out of its range is its first or last."""
    try:
        return _EPOCH + time * _MICROSECOND
    except OverflowError:  # of a row that was not written here: it must not keep the others from being listed
        return _LAST if time > 0 else _FIRST


def from_datetime(moment: datetime) -> int:
    """The time of an aware datetime."""
    return (moment - _EPOCH) // _MICROSECOND
