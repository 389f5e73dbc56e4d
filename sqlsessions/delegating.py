"""`DelegatingStorage`: forwards everything to another storage; the base of layers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from datetime import datetime
from typing import Any, Protocol, TypeVar, Unpack, runtime_checkable

from ._validation import digest
from .channels import Bytes, Consumer, Provider
from .ended import KeepsEnded
from .errors import InvalidArgumentType, UnsupportedOperation
from .info import EndedSession, Rebinding, SessionInfo, Snapshot, Successor
from .purging import Purged, Purging
from .storage import (
    DEFAULT,
    KEEP,
    Default,
    Duration,
    Keep,
    ManagedSessionStorage,
    SessionStorage,
)
from .values import WriteOptions

__all__ = ["DelegatingStorage", "MovesSessions", "WriteOptions", "layers"]

R = TypeVar("R")


_WRITE_DEFAULTS: dict[str, Any] = {
    "ttl": DEFAULT, "max_age": DEFAULT, "subject": KEEP, "if_match": None, "labels": KEEP, "client": KEEP
}  # fmt: skip


class DelegatingStorage(ManagedSessionStorage, KeepsEnded):
    """Forwards every operation to another storage: the base of a layer, which overrides what it changes.

    Each method is forwarded to the same method of the delegate, so that a layer that changes writes
    overrides `write`, `write_bytes` and `write_key`, one that changes reads `read`, `read_bytes`, `load` and
    `load_key`, and one that changes rotations `rotate` and `rotate_with`. A layer that changes what is stored
    overrides `rotate_with` and `rebind` as well: what they get changes the data as the layer above stored it.

    Over a plain `SessionStorage` the three verbs and their byte forms work; what needs more raises
    `UnsupportedOperation`.

    Args:
        delegate: The storage beneath; closed with this one.

    Attributes:
        clock: Gives the time in seconds since 1970 UTC: the delegate's own clock if it has one.
        default_ttl: Idle timeout of new sessions in seconds, None for none, as the delegate tells it; DEFAULT if
            it does not.
        max_sessions_per_subject: The most live sessions of a subject, as the delegate tells it.
        max_size: The most bytes of a session, as the delegate tells it; None if there is no limit.
        touch_every: The most seconds that `SessionInfo.used_at` is behind, as the delegate tells it; None if the idle
            timeout determines that.

    Raises:
        InvalidArgumentType: If the delegate is not a `SessionStorage`.
    """

    def __init__(self, delegate: SessionStorage) -> None:
        if not isinstance(delegate, SessionStorage):
            raise InvalidArgumentType(f"delegate must be a SessionStorage, not {type(delegate).__name__}")
        self._delegate = delegate
        self.clock: Callable[[], float] = getattr(delegate, "clock", time.time)
        self.default_ttl: float | Default | None = getattr(delegate, "default_ttl", DEFAULT)
        self.max_sessions_per_subject: int | None = getattr(delegate, "max_sessions_per_subject", None)
        self.max_size: int | None = getattr(delegate, "max_size", None)
        self.touch_every: float | None = getattr(delegate, "touch_every", None)

    @property
    def delegate(self) -> SessionStorage:
        """The storage beneath."""
        return self._delegate

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        info: SessionInfo = await self._delegate.write(id, provider, **self._given(options))
        return info

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        info: SessionInfo = await self._delegate.write_bytes(id, data, **self._given(options))
        return info

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        return await self._delegate.read(id, consumer)

    async def read_bytes(self, id: str) -> bytes:
        return await self._delegate.read_bytes(id)

    async def load(self, id: str) -> Snapshot | None:
        return await self._managed("load").load(id)

    async def info(self, id: str) -> SessionInfo | None:
        return await self._managed("info").info(id)

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        return await self._managed("touch").touch(id, ttl=ttl)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._managed("rotate").rotate(id, new_id)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        return await self._managed("rotate_with").rotate_with(id, new_id, rebinding)

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        return await self._managed("rebind").rebind(key, rebinding)

    async def invalidate(self, id: str) -> None:
        await self._delegate.invalidate(id)

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        return await self._managed("invalidate_key").invalidate_key(key, **_given(connection=connection))

    @property
    def digest(self) -> Callable[[str], bytes]:
        return self._delegate.digest if isinstance(self._delegate, ManagedSessionStorage) else digest

    async def successor(self, id: str) -> Successor | None:
        return await self._managed("successor").successor(id)

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        return await self._managed("infos").infos(keys)

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:
        return await self._managed("successors").successors(keys)

    def subscribe(self, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        if isinstance(self._delegate, ManagedSessionStorage):
            return self._delegate.subscribe(callback)
        return super().subscribe(callback)

    async def load_key(self, key: str) -> Snapshot | None:
        return await self._managed("load_key").load_key(key)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        return await self._managed("write_key").write_key(key, data, if_match=if_match)

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        return await self._managed("revoke").revoke(subject, keep=keep, **_given(connection=connection))

    async def revoke_all(self, before: datetime | None = None) -> int:
        return await self._managed("revoke_all").revoke_all(before)

    async def revoke_label(self, label: str) -> int:
        return await self._managed("revoke_label").revoke_label(label)

    def sessions(self, subject: str | None = None, *, label: str | None = None) -> AsyncIterator[SessionInfo]:
        return self._managed("sessions").sessions(subject, **_given(label=label))

    def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        return self._keeping("ended").ended(subject, since=since)

    async def forget_ended(self, subject: str) -> int:
        return await self._keeping("forget_ended").forget_ended(subject)

    async def rename_ended(self, name: Callable[[str], str]) -> int:
        return await self._keeping("rename_ended").rename_ended(name)

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        return await self._managed("purge").purge(batch_size=batch_size, max_batches=max_batches)

    def purging(
        self,
        *,
        every: Duration = 300.0,
        batch_size: int = 1000,
        progress: Callable[[Purged], None] | None = None,
    ) -> Purging:
        return self._managed("purging").purging(every=every, batch_size=batch_size, progress=progress)

    async def aclose(self) -> None:
        """Close the delegate; a plain storage has nothing to close."""
        if isinstance(self._delegate, ManagedSessionStorage):
            await self._delegate.aclose()

    def _managed(self, operation: str) -> ManagedSessionStorage:
        """The delegate, for an operation that a plain storage does not have."""
        if isinstance(self._delegate, ManagedSessionStorage):
            return self._delegate
        raise UnsupportedOperation(
            f"{operation} needs a ManagedSessionStorage beneath {type(self).__name__}, "
            f"and {type(self._delegate).__name__} is a plain SessionStorage"
        )

    def _keeping(self, operation: str) -> KeepsEnded:
        """The delegate, for an operation on sessions that have ended."""
        if isinstance(self._delegate, KeepsEnded):
            return self._delegate
        raise UnsupportedOperation(f"{type(self._delegate).__name__} does not offer {operation}")

    def _given(self, options: WriteOptions) -> dict[str, Any]:
        """The options that differ from the defaults: a plain storage takes none."""
        given = {
            name: value
            for name, value in options.items()
            if name not in _WRITE_DEFAULTS or value is not _WRITE_DEFAULTS[name]
        }
        if given:
            self._managed(f"write with {', '.join(given)}")
        return given


@runtime_checkable
class MovesSessions(Protocol):
    """A storage that may move sessions from one digest of their id to another, when they are used."""

    def rebind_moved(self, rebinding: Callable[[bytes, bytes], Rebinding]) -> None:
        """Set what such a move does to a session's data.

        For a layer that binds data to the digest.

        Args:
            rebinding: Gives it, from the digest before and the one after.
        """


def layers(storage: SessionStorage) -> Iterator[SessionStorage]:
    """A storage and those beneath it, the outermost first."""
    yield storage
    while isinstance(storage, DelegatingStorage):
        storage = storage.delegate
        yield storage


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None: not every storage takes them."""
    return {name: value for name, value in options.items() if value is not None}
