"""Storages in memory whose calls overlap: one that is right, and some that are each wrong in one way."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from sqlsessions import (
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionStorageMemory,
    Snapshot,
    StorageUnavailable,
)


class Overlapping(SessionStorageMemory):
    """Takes effect at some moment of each call, so that calls overlap."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)

    async def turns(self) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        await self.turns()
        info = await super().write_bytes(id, data, **options)
        await self.turns()
        return info

    async def load(self, id: str) -> Snapshot | None:
        await self.turns()
        snapshot = await super().load(id)
        await self.turns()
        return snapshot

    async def invalidate(self, id: str) -> None:
        await self.turns()
        await super().invalidate(id)
        await self.turns()

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        await self.turns()
        info = await super().rotate(id, new_id)
        await self.turns()
        return info


class Losing(Overlapping):
    """Loses answers; whether the write took effect, nobody knows. That is allowed."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        fate = self.random.random()
        if fate < 0.1:
            raise StorageUnavailable("lost before")
        info = await super().write_bytes(id, data, **options)
        if fate < 0.2:
            raise StorageUnavailable("lost after")
        return info


class Racing(Overlapping):
    """Checks the condition, and writes later."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        if_match = options.pop("if_match", None)
        info = await self.info(id)
        if if_match is not None and if_match != (info.version if info else 0):
            raise SessionConflict
        return await super().write_bytes(id, data, **options)


class Stale(Overlapping):
    """Answers from what it read a moment ago."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.cached: dict[str, Snapshot | None] = {}

    async def load(self, id: str) -> Snapshot | None:
        if id in self.cached and self.random.random() < 0.3:
            await asyncio.sleep(0)
            return self.cached[id]
        self.cached[id] = await super().load(id)
        return self.cached[id]


class Resurrecting(Overlapping):
    """A conditional write brings back a session that was ended."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        if options.get("if_match") and await self.info(id) is None:
            options.pop("if_match")
        return await super().write_bytes(id, data, **options)


class Forgetful(Overlapping):
    """Now and then does not end a session."""

    async def invalidate(self, id: str) -> None:
        if self.random.random() < 0.8:
            await super().invalidate(id)


class TornRotation(Overlapping):
    """Moves a session in two steps, between which neither id has it."""

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        if (info := await self.info(id)) is None or await self.info(new_id):
            return await super().rotate(id, new_id)
        old, _ = self._digests(id, new_id)
        moving = self._sessions.pop(old)
        await self.turns()
        self._sessions[old] = moving
        return await super().rotate(id, new_id) if await self.info(new_id) is None else info

    @staticmethod
    def _digests(*ids: str) -> list[bytes]:
        from sqlsessions.records import digest

        return [digest(id) for id in ids]


class CopyingRotation(TornRotation):
    """Moves a session in two steps, between which both ids have it."""

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        info = await super(TornRotation, self).rotate(id, new_id)
        old, new = self._digests(id, new_id)
        if new in self._sessions and old not in self._sessions:
            self._sessions[old] = self._sessions[new]
            await self.turns()
            await asyncio.sleep(0)
            self._sessions.pop(old, None)
        return info


class Twice(Overlapping):
    """Loses answers, and writes again whatever came between."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        info = await super().write_bytes(id, data, **options)
        if options.get("if_match") is None and self.random.random() < 0.3:
            [digest] = TornRotation._digests(id)
            written = self._sessions.get(digest)
            for _ in range(10):
                await asyncio.sleep(0)
            if written is not None:
                self._sessions[digest] = written
        return info


class Hasty(Overlapping):
    """Acknowledges a write before it takes effect."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.tasks: set[asyncio.Task[Any]] = set()

    async def invalidate(self, id: str) -> None:
        task = asyncio.ensure_future(super().invalidate(id))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Late(Overlapping):
    """A call that is cancelled takes effect afterwards."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        writing = asyncio.ensure_future(self._later(id, data, options))
        writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(writing)

    async def _later(self, id: str, data: Any, options: dict[str, Any]) -> SessionInfo:
        if self.random.random() < 0.3:
            await asyncio.sleep(0.02)
        return await super().write_bytes(id, data, **options)


RIGHT: list[type[ManagedSessionStorage]] = [Overlapping, Losing]
WRONG: list[type[ManagedSessionStorage]] = [
    Racing, Stale, Resurrecting, Forgetful, TornRotation, CopyingRotation, Twice, Hasty, Late,
]  # fmt: skip
