"""`SpyStorage`: a storage that records the calls that an integration makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from .. import DelegatingStorage, ManagedSessionStorage, SessionInfo, Snapshot, StorageUnavailable, Successor
from ..info import Rebinding
from .clock import ManualClock

READS = frozenset({"read", "info", "infos", "sessions", "successor", "successors"})


class SpyStorage(DelegatingStorage):
    """Forwards every call to another storage, and records the names of the calls.

    Args:
        delegate: The storage that does the work.

    Attributes:
        calls: The names of the calls, in order: ``read`` for all that reads data, ``write`` for all that
            writes it, ``invalidate`` for both ways to end a session, else the method's own.
        down: Whether every call raises `StorageUnavailable`. False at first.
        clock: The delegate's clock, for integrations.
    """

    def __init__(self, delegate: ManagedSessionStorage) -> None:
        super().__init__(delegate)
        self.calls: list[str] = []
        self.down = False
        if not hasattr(delegate, "clock"):
            self.clock = ManualClock()

    @property
    def delegate(self) -> ManagedSessionStorage:
        """The storage that does the work; what it is asked is not recorded."""
        return self._managed("delegate")

    @property
    def writes(self) -> list[str]:
        """The names of the recorded calls that write."""
        return [call for call in self.calls if call not in READS]

    def _called(self, name: str) -> ManagedSessionStorage:
        self.calls.append(name)
        if self.down:
            raise StorageUnavailable("the database is down")
        return self._managed(name)

    async def write(self, *arguments: Any, **options: Any) -> SessionInfo:
        return await self._called("write").write(*arguments, **options)

    async def write_bytes(self, *arguments: Any, **options: Any) -> SessionInfo:
        return await self._called("write").write_bytes(*arguments, **options)

    async def read(self, *arguments: Any) -> Any:
        return await self._called("read").read(*arguments)

    async def read_bytes(self, id: str) -> bytes:
        return await self._called("read").read_bytes(id)

    async def load(self, id: str) -> Snapshot | None:
        return await self._called("read").load(id)

    async def info(self, id: str) -> SessionInfo | None:
        return await self._called("info").info(id)

    async def infos(self, *arguments: Any) -> dict[str, SessionInfo]:
        return await self._called("infos").infos(*arguments)

    async def successors(self, *arguments: Any) -> dict[str, Successor]:
        return await self._called("successors").successors(*arguments)

    async def load_key(self, key: str) -> Snapshot | None:
        return await self._called("read").load_key(key)

    async def write_key(self, *arguments: Any, **options: Any) -> SessionInfo:
        return await self._called("write").write_key(*arguments, **options)

    async def successor(self, id: str) -> Successor | None:
        return await self._called("successor").successor(id)

    async def touch(self, id: str, **options: Any) -> SessionInfo | None:
        return await self._called("touch").touch(id, **options)

    async def invalidate(self, id: str) -> None:
        await self._called("invalidate").invalidate(id)

    async def invalidate_key(self, key: str, **options: Any) -> bool:
        return await self._called("invalidate").invalidate_key(key, **options)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._called("rotate").rotate(id, new_id)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        return await self._called("rotate").rotate_with(id, new_id, rebinding)

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        return await self._called("write").rebind(key, rebinding)

    async def revoke(self, subject: str, **options: Any) -> int:
        return await self._called("revoke").revoke(subject, **options)

    async def revoke_all(self, before: datetime | None = None) -> int:
        return await self._called("revoke").revoke_all(before)

    async def revoke_label(self, label: str) -> int:
        return await self._called("revoke").revoke_label(label)

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        async for info in self._called("sessions").sessions(subject, label=label):
            yield info

    async def purge(self, **options: Any) -> int:
        return await self._called("purge").purge(**options)
