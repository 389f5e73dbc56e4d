"""Values of arguments: durations, session ids, and what stands for the storage's or the session's own."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import timedelta
from enum import Enum
from typing import Final, Literal, TypedDict

Duration = float | timedelta
"""Seconds, or a timedelta; above 0 and at most 1,000 years."""


class _Unset(Enum):
    DEFAULT = "DEFAULT"
    KEEP = "KEEP"

    def __repr__(self) -> str:
        return self.value


Default = Literal[_Unset.DEFAULT]
Keep = Literal[_Unset.KEEP]
DEFAULT: Final = _Unset.DEFAULT
"""The storage's setting for a new session, the session's own for one that lives."""
KEEP: Final = _Unset.KEEP
"""What the live session has: its subject, labels or client, and for a touch its expiry; none for a new session."""


class WriteOptions(TypedDict, total=False):
    """The options of `ManagedSessionStorage.write` and `write_bytes`, for layers that forward them."""

    ttl: Duration | Default | None
    max_age: Duration | Default | None
    subject: str | Keep | None
    if_match: int | None
    labels: Collection[str] | Keep
    client: Mapping[str, str] | Keep | None


def new_session_id() -> str:
    """Make a session id: 256 random bits as 43 characters of base64url.

    OWASP asks for at least 64 bits of entropy from a cryptographic generator (Session Management
    Cheat Sheet, "Session ID Entropy"). The id is a credential: keep it out of logs and URLs.
    """
    return secrets.token_urlsafe(32)
