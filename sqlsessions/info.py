"""`SessionInfo` and `Snapshot`: what a storage tells about a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
    """

    key: str
    version: int
    size: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    subject: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """A session whole: its data and what the storage knows about it, of one version."""

    data: bytes
    info: SessionInfo

    def __repr__(self) -> str:
        return f"Snapshot(<{len(self.data)} bytes>, {self.info!r})"


@dataclass(frozen=True, slots=True)
class Successor:
    """Where a session went whose id was changed.

    Attributes:
        key: Of the session under its newest id. It is not a credential: no id can be computed from it.
        info: The session; None if it has ended since.
    """

    key: str
    info: SessionInfo | None
