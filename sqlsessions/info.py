"""`SessionInfo`, `Snapshot` and `EndedSession`: what a storage tells about a session. `Rebinding`: what layers change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

EndReason = Literal["ended", "revoked", "expired", "too_many", "replaced"]
"""Why a session ended; see `EndedSession`."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a storage knows about a session besides its data. Holds no session id.

    Attributes:
        key: SHA-256 of the session id, in hex: names the session without being its credential.
        version: Positive 63-bit integer, new with every write; for `if_match`, and else opaque.
        size: Size of the data in bytes.
        created_at: When the session was created, UTC.
        updated_at: When its data was last written, UTC; after ``created_at`` in any case, if only by a
            microsecond, unless that was the write which created it.
        expires_at: When it ends unless touched or written before, UTC; None is never.
        subject: Whose session it is, usually a user id; None is nobody's.
        used_at: When it was last written, or touched so that this was worth a write, UTC: see the storage's ``touch_every``.
            None if the storage does not know.
        labels: Further names of it, in their order.
        client: What is known of the client that uses it, such as its address; None is nothing.
    """

    key: str
    version: int
    size: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    subject: str | None = field(repr=False)
    used_at: datetime | None = None
    labels: tuple[str, ...] = field(default=(), repr=False)
    client: Mapping[str, str] | None = field(default=None, repr=False, hash=False)


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """A session whole: its data and what the storage knows about it, of one version."""

    data: bytes
    info: SessionInfo

    def __repr__(self) -> str:
        return f"Snapshot(<{len(self.data)} bytes>, {self.info!r})"


@dataclass(frozen=True, slots=True)
class Successor:
    """Where a session went whose id was changed, or that ended.

    Attributes:
        key: Of the session under its newest id. It is not a credential: no id can be computed from it.
        info: The session; None if it has ended.
        since: When the id was changed, or the session ended; None if that is not known.
    """

    key: str
    info: SessionInfo | None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """What is kept of a session that has ended: no data, and no session id.

    Attributes:
        key: The `SessionInfo.key` that it had last.
        reason: ``ended`` by its id, as a logout does; ``revoked`` by its key, its subject or a label, or with all others;
            ``expired``; ``too_many``, for a new one of a subject whose sessions are bounded; or ``replaced``, if it was
            kept under an earlier namespace or key, and its id has another session by now.
        ended_at: When it ended, UTC; of an expired one, when it expired.
        created_at: When it began, UTC.
        used_at: When it was last written or touched, UTC.
        subject: Whose it was; None is nobody's.
        client: What was known of the client that used it, such as its address; None is nothing.
    """

    key: str
    reason: EndReason
    ended_at: datetime
    created_at: datetime
    used_at: datetime
    subject: str | None = field(repr=False)
    client: Mapping[str, str] | None = field(default=None, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Rebinding:
    """A change of the first bytes of a session's data and of its names, which is no write: the version stays.

    For layers that bind data to its session. The functions do no input or output and may be called again; what they
    raise leaves the session as it was.

    Attributes:
        size: How many bytes.
        head: Called with them, fewer if the data is shorter, and gives as many.
        name: Called with the subject, each label, and each value of the client, and gives the new one.
    """

    size: int
    head: Callable[[bytes], bytes]
    name: Callable[[str], str] = lambda name: name

    def data(self, data: bytes) -> bytes:
        """The data after the change; itself if that is the same."""
        old = bytes(data[: self.size])
        new = self.head(old)
        if len(new) != len(old):
            raise ValueError("the head of a rebinding must give as many bytes as it gets")
        return data if new == old else new + data[self.size :]


@dataclass(frozen=True, slots=True)
class JoinedTransaction:
    """A connection of the caller's, for layers that must know which sessions end with its transaction.

    A layer gives it to the storage beneath in place of the connection.

    Attributes:
        connection: The connection, or another one of these.
        ending: Called with the keys of sessions as soon as they are ended in the transaction, and gives a function
            that is called once the transaction is over, whichever way.
    """

    connection: Any
    ending: Callable[[Collection[str]], Callable[[], Awaitable[None]]]
