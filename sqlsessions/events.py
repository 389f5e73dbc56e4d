"""The life cycle of sessions, reported to hooks and to the security log.

The security log is the logger ``sqlsessions.security``, at level INFO. OWASP asks for the life cycle of
sessions to be logged, and for session ids to be logged as salted hashes only (Session Management Cheat
Sheet, "Logging Sessions Life Cycle"; Logging Cheat Sheet, "Data to exclude").
"""

from __future__ import annotations

import hmac
import inspect
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import InvalidArgument, InvalidArgumentType
from .info import SessionInfo

Kind = Literal["created", "rotated", "invalidated", "expired"]

MIN_SALT = 16  # bytes, as NIST SP 800-132 wants them
HASH_DIGITS = 16

SAMPLE, SAMPLE_SECONDS = 100, 60.0
"""So many unknown ids are logged, and for so long no more: anybody can present as many as they like."""

logger = logging.getLogger("sqlsessions")
security = logging.getLogger("sqlsessions.security")


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """A change in the life cycle of a session, committed.

    Attributes:
        kind: ``created``, ``rotated``, ``invalidated`` or ``expired``.
        key: The `SessionInfo.key` of the session; of a rotated one the new key.
        info: The session as created or rotated; None for one that is gone.
        previous_key: The key of a rotated session before the rotation; else None.
    """

    kind: Kind
    key: str
    info: SessionInfo | None = None
    previous_key: str | None = None


Hook = Callable[[SessionEvent], Awaitable[None] | None]
"""Called with an event; a function or an async function."""


class Events:
    """Reports the life cycle of sessions to hooks and to the security log.

    Hooks run one after the other in the task of the caller, after the commit and before its call
    returns. What one raises is logged without its message, which may quote confidential data.

    Args:
        on_created: Called for every new session.
        on_rotated: Called for every change of a session's id.
        on_invalidated: Called for every live session that is ended.
        on_expired: Called for every expired session that a purge deletes.
        salt: Salt of the hashes in the security log, at least 16 bytes; None makes a random one, so that
            hashes can be compared within the log of this storage only.

    Attributes:
        observer: Called with the kind and the number of events, if not None.

    Raises:
        InvalidArgumentType: If a hook cannot be called, or the salt is not bytes.
        InvalidArgument: If the salt is too short.
    """

    def __init__(
        self,
        *,
        on_created: Hook | None = None,
        on_rotated: Hook | None = None,
        on_invalidated: Hook | None = None,
        on_expired: Hook | None = None,
        salt: bytes | None = None,
    ) -> None:
        self._hooks: dict[Kind, Hook | None] = {
            "created": on_created,
            "rotated": on_rotated,
            "invalidated": on_invalidated,
            "expired": on_expired,
        }
        for kind, hook in self._hooks.items():
            if hook is not None and not callable(hook):
                raise InvalidArgumentType(f"on_{kind} must be a function, not {type(hook).__name__}")
        if salt is not None and not isinstance(salt, bytes):
            raise InvalidArgumentType(f"log_salt must be bytes or None, not {type(salt).__name__}")
        if salt is not None and len(salt) < MIN_SALT:
            raise InvalidArgument(f"log_salt must hold at least {MIN_SALT} bytes, not {len(salt)}")
        self._salt = secrets.token_bytes(32) if salt is None else salt
        self._unknown = Sample()
        self.observer: Callable[[Kind, int], None] | None = None

    @property
    def wants_expired(self) -> bool:
        """Whether `expired` has an effect: if not, a purge need not fetch the sessions that it deletes."""
        return self._hooks["expired"] is not None or security.isEnabledFor(logging.INFO)

    async def created(self, info: SessionInfo) -> None:
        """Report a new session."""
        if security.isEnabledFor(logging.INFO):
            self._log("created", bytes.fromhex(info.key), subject=info.subject)
        await self._notify("created", [SessionEvent("created", info.key, info)])

    async def rotated(self, info: SessionInfo, previous: bytes) -> None:
        """Report a session that got a new id."""
        if security.isEnabledFor(logging.INFO):
            self._log("rotated", bytes.fromhex(info.key), previous=previous, subject=info.subject)
        await self._notify("rotated", [SessionEvent("rotated", info.key, info, previous.hex())])

    async def invalidated(self, digests: Sequence[bytes]) -> None:
        """Report live sessions that were ended."""
        await self._ended("invalidated", digests)

    async def revoked(self, subject: str, digests: Sequence[bytes]) -> None:
        """Report a revocation, and the live sessions that it ended."""
        if security.isEnabledFor(logging.INFO):
            hashed, count = self._subject(subject), len(digests)
            security.info(
                "sessions revoked: subject=%s count=%d",
                hashed,
                count,
                extra={"session_event": "revoked", "subject_hash": hashed, "session_count": count},
            )
        await self._ended("invalidated", digests)

    def revoked_all(self, count: int) -> None:
        """Log that all sessions were ended, or all that began before a time; each is reported by itself."""
        security.info(
            "all sessions revoked: count=%d",
            count,
            extra={"session_event": "revoked_all", "session_count": count},
        )

    async def expired(self, digests: Sequence[bytes]) -> None:
        """Report expired sessions that were deleted."""
        await self._ended("expired", digests)

    def unknown(self, digest: bytes) -> None:
        """Log an id that no live session has: expired, ended, or never issued; of many, a sample."""
        if security.isEnabledFor(logging.INFO) and (left_out := self._unknown.take()) is not None:
            self._log("unknown", digest, left_out=left_out)

    def moved(self, previous: bytes, digest: bytes) -> None:
        """Log an id that was changed, and the one that the session has now, or had last."""
        if previous != digest and security.isEnabledFor(logging.INFO):
            self._log("moved", digest, previous=previous)

    def unreadable(self, digest: bytes) -> None:
        """Log a session whose data cannot be read, so that it counts as none."""
        if security.isEnabledFor(logging.INFO):
            self._log("unreadable", digest)

    async def _ended(self, kind: Kind, digests: Sequence[bytes]) -> None:
        if not digests:
            return
        if security.isEnabledFor(logging.INFO):
            for digest in digests:
                self._log(kind, digest)
        if self._hooks[kind] is not None or self.observer is not None:
            await self._notify(kind, [SessionEvent(kind, digest.hex()) for digest in digests])

    async def _notify(self, kind: Kind, events: Sequence[SessionEvent]) -> None:
        if self.observer is not None:
            self.observer(kind, len(events))
        if (hook := self._hooks[kind]) is None:
            return
        for event in events:
            try:
                waiting = hook(event)
                if inspect.isawaitable(waiting):
                    await waiting
            except Exception as error:  # noqa: BLE001 (the operation has succeeded, whatever a hook does)
                frames = "".join(traceback.format_tb(error.__traceback__))
                logger.error("the hook on_%s failed: %s\n%s", kind, type(error).__qualname__, frames)  # noqa: TRY400 (without its message)

    def _log(
        self,
        event: str,
        digest: bytes,
        *,
        previous: bytes | None = None,
        subject: str | None = None,
        left_out: int = 0,
    ) -> None:
        hashes: dict[str, Any] = {"session": self._hash(digest)}
        if previous is not None:
            hashes["previous"] = self._hash(previous)
        if subject is not None:
            hashes["subject"] = self._subject(subject)
        shown = " ".join(f"{name}={value}" for name, value in hashes.items())
        extra: dict[str, Any] = {f"{name}_hash": value for name, value in hashes.items()}
        if left_out:
            shown += f" left_out={left_out}"
            extra["left_out"] = left_out
        security.info("%s: %s", _MESSAGES[event], shown, extra={"session_event": event} | extra)

    def _subject(self, subject: str) -> str:
        return self._hash(b"subject\0" + subject.encode())

    def _hash(self, value: bytes) -> str:
        return hmac.digest(self._salt, value, "sha256").hex()[:HASH_DIGITS]


class Sample:
    """Lets `SAMPLE` events pass in `SAMPLE_SECONDS`.

    Attributes:
        clock: Gives the time in seconds.
    """

    def __init__(self) -> None:
        self.clock = time.monotonic
        self._begin = -SAMPLE_SECONDS
        self._taken = self._left_out = 0

    def take(self) -> int | None:
        """How many were left out since the last one that passed; None if this one is left out."""
        if (now := self.clock()) - self._begin >= SAMPLE_SECONDS:
            self._begin, self._taken = now, 0
        if self._taken == SAMPLE:
            self._left_out += 1
            return None
        self._taken += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def events_of(storage: object) -> Events | None:
    """The events of a storage that keeps sessions itself, also beneath layers; None if it has none."""
    while storage is not None:
        if (events := getattr(storage, "_events", None)) is not None:
            return events  # type: ignore[no-any-return]
        storage = getattr(storage, "delegate", None)
    return None


_MESSAGES = {
    "created": "session created",
    "rotated": "session rotated",
    "invalidated": "session invalidated",
    "expired": "session expired",
    "unknown": "unknown session id presented",
    "moved": "moved session id presented",
    "unreadable": "unreadable session presented",
}
