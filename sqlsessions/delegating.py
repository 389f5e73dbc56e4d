"""`DelegatingStorage`: forwards everything to another storage; the base of layers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, TypedDict, TypeVar, Unpack

from .channels import Consumer, Provider
from .errors import InvalidArgumentType, UnsupportedOperation
from .info import SessionInfo, Snapshot, Successor
from .purging import Purged, Purging
from .storage import DEFAULT, KEEP, Bytes, Default, Duration, Keep, ManagedSessionStorage, SessionStorage

__all__ = ["DelegatingStorage", "WriteOptions"]

R = TypeVar("R")


class WriteOptions(TypedDict, total=False):
    """The options of `ManagedSessionStorage.write` and `write_bytes`, for layers that forward them."""

    ttl: Duration | Default | None
    max_age: Duration | Default | None
    subject: str | Keep | None
    if_match: int | None


_WRITE_DEFAULTS: dict[str, Any] = {"ttl": DEFAULT, "max_age": DEFAULT, "subject": KEEP, "if_match": None}


class DelegatingStorage(ManagedSessionStorage):
    """Forwards every operation to another storage: the base of a layer, which overrides what it changes.

    Each method is forwarded to the same method of the delegate, so that a layer that changes writes
    overrides both `write` and `write_bytes`, and one that changes reads `read`, `read_bytes` and `load`.

    Over a plain `SessionStorage` the three verbs and their byte forms work; what needs more raises
    `UnsupportedOperation`.

    Args:
        delegate: The storage beneath; closed with this one.

    Attributes:
        clock: Gives the time in seconds since 1970 UTC: the delegate's own clock if it has one.

    Raises:
        InvalidArgumentType: If the delegate is not a `SessionStorage`.
    """

    def __init__(self, delegate: SessionStorage) -> None:
        if not isinstance(delegate, SessionStorage):
            raise InvalidArgumentType(f"delegate must be a SessionStorage, not {type(delegate).__name__}")
        self._delegate = delegate
        self.clock: Callable[[], float] = getattr(delegate, "clock", time.time)

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

    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        return await self._managed("touch").touch(id, ttl=ttl)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._managed("rotate").rotate(id, new_id)

    async def invalidate(self, id: str) -> None:
        await self._delegate.invalidate(id)

    async def invalidate_key(self, key: str) -> bool:
        return await self._managed("invalidate_key").invalidate_key(key)

    async def successor(self, id: str) -> Successor | None:
        return await self._managed("successor").successor(id)

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        return await self._managed("infos").infos(keys)

    async def load_key(self, key: str) -> Snapshot | None:
        return await self._managed("load_key").load_key(key)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        return await self._managed("write_key").write_key(key, data, if_match=if_match)

    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        return await self._managed("revoke").revoke(subject, keep=keep)

    def sessions(self, subject: str | None = None) -> AsyncIterator[SessionInfo]:
        return self._managed("sessions").sessions(subject)

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
