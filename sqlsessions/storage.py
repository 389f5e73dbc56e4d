"""The contract: what a session storage does, stated once with its edge cases.

`SessionStorage` is the three verbs, all that a third party must write. `ManagedSessionStorage` adds
what the framework integrations and the command line need.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from datetime import timedelta
from enum import Enum
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from ._validation import digest
from .channels import ByteReadChannel, ByteWriteChannel, Consumer, Provider
from .errors import InvalidArgumentType, SessionError, SessionNotFound, UnsupportedOperation
from .info import SessionInfo, Snapshot, Successor
from .purging import Purged, Purging

R = TypeVar("R")
Bytes = bytes | bytearray | memoryview
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
"""The subject that the live session has; none for a new session."""


def new_session_id() -> str:
    """Make a session id: 256 random bits as 43 characters of base64url.

    OWASP asks for at least 64 bits of entropy from a cryptographic generator (Session Management
    Cheat Sheet, "Session ID Entropy"). The id is a credential: keep it out of logs and URLs.
    """
    return secrets.token_urlsafe(32)


class SessionStorage(ABC):
    """Three verbs over session data kept under an id.

    Ids are exact: case, accents, Unicode form, trailing spaces and NUL all count. They hold 1 to
    4,096 bytes of UTF-8; others raise `InvalidSessionId`. Every method may raise
    `StorageUnavailable`.
    """

    @abstractmethod
    async def write(self, id: str, provider: Provider) -> Any:
        """Replace the session's data by what the provider writes, whole or not at all.

        If the provider raises or is cancelled, the old session stays as it was. A provider that
        writes nothing makes an empty session.

        Args:
            id: The session id.
            provider: An async function that writes to the `ByteWriteChannel` it is given.
        """

    @abstractmethod
    async def read(self, id: str, consumer: Consumer[R]) -> R:
        """Let the consumer read the session's data, one version whole.

        Args:
            id: The session id.
            consumer: An async function that reads from the `ByteReadChannel` it is given; it need
                not read to the end.

        Returns:
            What the consumer returned.

        Raises:
            SessionNotFound: If no live session has this id; the consumer is not called.
        """

    @abstractmethod
    async def invalidate(self, id: str) -> None:
        """End the session. Does nothing if there is none."""

    async def write_bytes(self, id: str, data: Bytes) -> Any:
        """`write` for data at hand."""
        return await self.write(id, providing(data))

    async def read_bytes(self, id: str) -> bytes:
        """`read` for all of the data at once."""
        return await self.read(id, ByteReadChannel.read)


class ManagedSessionStorage(SessionStorage):
    """A storage that also expires, lists, rotates and revokes sessions.

    ``ttl`` is the idle timeout, counted from the last write or touch; ``max_age`` the absolute one,
    counted from creation. Both are seconds or a `timedelta`; None is never. A session past either
    is absent at once, whether or not it was purged. Reading alone does not extend it.
    """

    @abstractmethod
    async def write(
        self,
        id: str,
        provider: Provider,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        """Replace the session's data by what the provider writes, whole or not at all.

        Args:
            id: The session id.
            provider: An async function that writes to the `ByteWriteChannel` it is given.
            ttl: The session's idle timeout from now on.
            max_age: The session's absolute timeout; for a live session it still counts from the
                session's creation.
            subject: Whose session it is, 1 to 255 characters without NUL; None is no subject.
            if_match: None writes in any case; 0 only if no live session has this id; a version
                only if the live session has just that one.

        Returns:
            The session as written.

        Raises:
            SessionConflict: If ``if_match`` did not hold; nothing was changed.
            SessionTooLarge: If a size limit of the storage is passed; nothing was changed.
        """

    async def write_bytes(
        self,
        id: str,
        data: Bytes,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        """`write` for data at hand."""
        return await self.write(
            id, providing(data), ttl=ttl, max_age=max_age, subject=subject, if_match=if_match
        )

    async def load(self, id: str) -> Snapshot | None:
        """The session's data and info, of one version; None if there is no live session."""

        async def snapshot(channel: ByteReadChannel) -> Snapshot:
            if channel.info is None:
                raise SessionError(f"{type(self).__name__}.read gave a channel without info")
            return Snapshot(await channel.read(), channel.info)

        try:
            return await self.read(id, snapshot)
        except SessionNotFound:
            return None

    @abstractmethod
    async def info(self, id: str) -> SessionInfo | None:
        """What the storage knows about the session; None if there is no live session."""

    @abstractmethod
    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        """Extend the session's expiry without touching its data.

        The expiry never moves backwards. To spare the database, nothing is written while less than
        5 % of the idle timeout would be gained, so that the idle timeout may end up to 5 % early.

        Args:
            id: The session id.
            ttl: A new idle timeout for the session, from now on; by default its own stays.

        Returns:
            The session after the touch; None if there is no live session.
        """

    @abstractmethod
    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        """Move the session to a new id, atomically; all else about it stays.

        To be done whenever a session gains rights, as at login, against session fixation.

        Raises:
            SessionNotFound: If no live session has ``id``.
            SessionConflict: If a live session already has ``new_id``.
        """

    @abstractmethod
    def sessions(self, subject: str | None = None) -> AsyncIterator[SessionInfo]:
        """Iterate over the live sessions, page by page.

        Sessions that begin or end meanwhile may or may not be seen; no other is seen twice or
        missed.

        Args:
            subject: Only this subject's, newest first; None is everybody's, in the order of keys.
        """

    @abstractmethod
    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        """End all sessions of a subject ("log out everywhere").

        Args:
            subject: Whose sessions to end.
            keep: The id of a session to leave alone, usually the caller's own.

        Returns:
            How many live sessions were ended.
        """

    @abstractmethod
    async def invalidate_key(self, key: str) -> bool:
        """End a session by its `SessionInfo.key`, as listed by `sessions`.

        Returns:
            Whether a live session had this key.
        """

    async def successor(self, id: str) -> Successor | None:
        """Where the session went that had this id, if `rotate` changed it within the last minute.

        An id that was changed gives access to nothing, here as elsewhere: this only tells a late request,
        in any process, apart from one whose session ended. By default, nothing is known.

        Args:
            id: The old id.
        """
        digest(id)  # which refuses what is no id
        return None

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:  # noqa: ARG002 (for overriding)
        """The live sessions among some, by `SessionInfo.key`, in few round trips.

        Raises:
            UnsupportedOperation: If the storage finds no sessions by key.
        """
        raise self._unsupported("infos")

    async def load_key(self, key: str) -> Snapshot | None:  # noqa: ARG002 (for overriding)
        """`load`, by `SessionInfo.key`. For code that is authorised by other means than an id.

        Raises:
            UnsupportedOperation: If the storage finds no sessions by key.
        """
        raise self._unsupported("load_key")

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:  # noqa: ARG002 (for overriding)
        """Write over a live session, by `SessionInfo.key`; it begins none, and all else about it stays.

        Args:
            key: Its key.
            data: The new data.
            if_match: The version that it must have.

        Raises:
            SessionConflict: If no live session has this key and version; nothing was changed.
            SessionTooLarge: If a size limit of the storage is passed; nothing was changed.
            UnsupportedOperation: If the storage finds no sessions by key.
        """
        raise self._unsupported("write_key")

    def _unsupported(self, operation: str) -> UnsupportedOperation:
        return UnsupportedOperation(f"{type(self).__name__} does not offer {operation}")

    @abstractmethod
    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        """Delete expired sessions and what they leave behind, batch by batch.

        Args:
            batch_size: Sessions looked at in one transaction, 1 to 10,000.
            max_batches: Stop after this many batches; None goes on until done.

        Returns:
            How many expired sessions were deleted.
        """

    def purging(
        self,
        *,
        every: Duration = 300.0,
        batch_size: int = 1000,
        progress: Callable[[Purged], None] | None = None,
    ) -> Purging:
        """Purge at intervals, in the background of a service.

        ``async with storage.purging(every=300):`` purges while the block runs; ``await
        storage.purging(every=300).run()`` is the same as a plain coroutine. Of several processes, one
        at a time purges. Errors are logged, and the purging goes on.

        Args:
            every: Time between two purges. 300 seconds unless set.
            batch_size: As for `purge`.
            progress: Called after each step with what the round has deleted so far.

        Raises:
            InvalidArgument: If an argument is out of its range.
            InvalidArgumentType: If an argument is of the wrong type.
        """

        async def batches(size: int) -> AsyncGenerator[Purged]:
            yield Purged(await self.purge(batch_size=size))

        return Purging(batches, every=every, batch_size=batch_size, progress=progress)

    async def aclose(self) -> None:
        """Close what the storage opened. It cannot be used afterwards."""
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def providing(data: Bytes) -> Provider:
    """A provider that writes data at hand.

    Raises:
        InvalidArgumentType: If data is not bytes, bytearray or memoryview.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgumentType(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")

    async def provider(channel: ByteWriteChannel) -> None:
        await channel.write(data)

    return provider
