"""The contract: what a session storage does, stated once with its edge cases.

`SessionStorage` is the three verbs, all that a third party must write. `ManagedSessionStorage` adds
what the framework integrations and the command line need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from ._validation import digest, moment
from .channels import ByteReadChannel, Bytes, Consumer, Provider, providing
from .errors import SessionConflict, SessionError, SessionNotFound, UnsupportedOperation
from .info import Rebinding, SessionInfo, Snapshot, Successor
from .purging import Purged, Purging
from .values import DEFAULT, KEEP, Default, Duration, Keep, WriteOptions, new_session_id

__all__ = [
    "DEFAULT", "KEEP", "Bytes", "Default", "Duration", "Keep", "ManagedSessionStorage", "SessionStorage",
    "new_session_id", "providing",
]  # fmt: skip

R = TypeVar("R")


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
        labels: Collection[str] | Keep = KEEP,
        client: Mapping[str, str] | Keep | None = KEEP,
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
            labels: All further names of the session, by which it is found: at most 16, each as a subject is.
            client: What is known of the client that uses it, such as its address.

        Returns:
            The session as written.

        Raises:
            SessionConflict: If ``if_match`` did not hold; nothing was changed.
            SessionTooLarge: If a size limit of the storage is passed; nothing was changed.
            TooManySessions: If the storage refuses the subject one more session; nothing was changed.
        """

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        """`write` for data at hand."""
        return await self.write(id, providing(data), **options)

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
    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        """Extend the session's expiry without touching its data.

        The expiry never moves backwards. To spare the database, nothing is written while less than 5 % of the idle
        timeout would be gained, so that it may end up to 5 % early, unless the last use is a ``touch_every`` ago.

        Args:
            id: The session id.
            ttl: A new idle timeout from now on; by default its own stays. KEEP notes the use, and extends nothing.

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

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        """`rotate`, with a rebinding; the version stays. For layers.

        The storages of sqlsessions do both at once. By default the session is rotated and then written: what
        reads it in between sees the old data under the new id, and the version is new.
        """
        info = await self.rotate(id, new_id)
        snapshot = await self.load(new_id)
        if snapshot is None or snapshot.info.version != info.version:
            raise SessionConflict("the session was written while it got a new id")
        named: WriteOptions = {"if_match": info.version}
        if info.subject is not None:
            named["subject"] = rebinding.name(info.subject)
        if info.labels:
            named["labels"] = [rebinding.name(label) for label in info.labels]
        if info.client is not None:
            named["client"] = {name: rebinding.name(value) for name, value in info.client.items()}
        return await self.write_bytes(new_id, rebinding.data(snapshot.data), **named)

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:  # noqa: ARG002 (for overriding)
        """Rebind a session, by `SessionInfo.key`; its version and all else stay. For layers.

        Returns:
            Whether something changed: False also if no live session has this key.

        Raises:
            UnsupportedOperation: If the storage does not offer it.
        """
        raise self._unsupported("rebind")

    @abstractmethod
    def sessions(self, subject: str | None = None, *, label: str | None = None) -> AsyncIterator[SessionInfo]:
        """Iterate over the live sessions, page by page.

        Sessions that begin or end meanwhile may or may not be seen; no other is seen twice or missed.

        Args:
            subject: Only this subject's, newest first; None is everybody's, in the order of keys.
            label: Only those with this label, in the order of keys; not together with a subject.
        """

    @abstractmethod
    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        """End all sessions of a subject ("log out everywhere").

        Args:
            subject: Whose sessions to end.
            keep: The id of a session to leave alone, usually the caller's own; `rotate` may just have changed it.
            connection: For a `SqlSessionStorage`, also beneath layers: SQLAlchemy's `AsyncConnection` or
                `AsyncSession` to the same database. The sessions end with the commit of the caller's transaction,
                or not at all if that is rolled back; hooks, caches and the security log are told after the commit.

        Returns:
            How many live sessions were ended, or end with that commit.

        Raises:
            InvalidArgument: If the connection is closed, commits each statement by itself, or is to another database.
            StorageUnavailable: Also if the caller's transaction conflicts with others, and must be done again.
            UnsupportedOperation: If there is a connection, and the storage has no transactions to join.
        """

    async def revoke_label(self, label: str) -> int:
        """End all sessions with a label. One that begins meanwhile may end as well, or stay.

        Returns:
            How many live sessions were ended.
        """
        return sum([await self.invalidate_key(info.key) async for info in self.sessions(label=label)])

    async def revoke_all(self, before: datetime | None = None) -> int:
        """End all sessions, or those that began before a time: "log out everybody", as after a breach.

        A session that begins meanwhile may end as well, or stay.

        Args:
            before: Leave those alone that began then or later; a datetime with a time zone. None ends all.

        Returns:
            How many live sessions were ended.

        Raises:
            InvalidArgument: If ``before`` has no time zone.
        """
        if before is not None:
            moment("before", before)
        return sum(
            [
                await self.invalidate_key(info.key)
                async for info in self.sessions()
                if before is None or info.created_at < before
            ]
        )

    @abstractmethod
    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        """End a session by its `SessionInfo.key`, as listed by `sessions`.

        Args:
            key: Its key.
            connection: As for `revoke`.

        Returns:
            Whether a live session had this key.
        """

    @property
    def digest(self) -> Callable[[str], bytes]:
        """What the storage keeps in the place of an id, and `SessionInfo.key` shows in hex; SHA-256 by default."""
        return digest

    async def successor(self, id: str) -> Successor | None:
        """Where the session went that had this id, if `rotate` changed it, or it was ended, in the last minute.

        Sessions that `revoke` ended are not known, since no response has told their browsers.
        Such an id gives access to nothing, here as elsewhere: this only tells a late request, in any process,
        apart from one whose session expired or never was. By default, nothing is known.

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

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:  # noqa: ARG002 (for overriding)
        """`successor` of some sessions, by the `SessionInfo.key` that they had, in few round trips.

        For connections that stay open, with which no id is presented.

        Raises:
            UnsupportedOperation: If the storage finds no sessions by key.
        """
        raise self._unsupported("successors")

    def subscribe(self, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:  # noqa: ARG002 (for overriding)
        """Have a function called as soon as the storage learns that sessions were changed or ended.

        A storage that learns of other processes' changes overrides it: open connections end with their session
        without delay. By default it is never called, and the storage is asked in intervals.

        Args:
            callback: Gets the keys of the sessions; None is any. It may be called in any thread, and is short.

        Returns:
            A function that ends the subscription.
        """
        return lambda: None

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

        ``async with storage.purging(every=300):`` purges while the block runs; ``await storage.purging(every=300).run()``
        is the same as a plain coroutine. Of several processes, one at a time purges. Errors are logged; it goes on.

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
