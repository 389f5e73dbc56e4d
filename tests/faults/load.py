"""A mixed load on a storage, whose every call goes into a ledger."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
    StorageUnavailable,
)

from .ledger import Ledger, Slot, State, payload, session_id

SMALL, LARGE = 2_000, 200_000  # bytes at most
PATIENCE = 90.0  # seconds, after which a call counts as hanging
HURT = 0.02  # seconds that a caller who saw an error waits

WEIGHTS = {
    "write": 30,
    "write if it is the version": 12,
    "write large": 6,
    "read": 25,
    "read slowly": 4,
    "touch": 5,
    "rotate": 6,
    "invalidate": 4,
    "invalidate key": 2,
    "revoke": 2,
    "write and fail": 2,
    "write and leave": 2,
}


class ProviderFailed(Exception):
    """What a provider raises, to be raised by the write as it is."""


class Load:
    """Callers, one for each slot, and one that lists and purges.

    Args:
        storage: What they call.
        ledger: Knows what they were told.
        seed: Makes what they do repeatable, but for its timing.
        large: The most bytes of a large session.
    """

    def __init__(
        self, storage: ManagedSessionStorage, ledger: Ledger, *, seed: int = 0, large: int = LARGE
    ) -> None:
        self.storage = storage
        self.ledger = ledger
        self._random = random.Random(seed)
        self._large = large
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, names: Iterable[str], *, housekeeping: bool = True) -> None:
        """Let the callers begin."""
        self._tasks = [asyncio.create_task(self._caller(self.ledger.slot(name))) for name in names]
        if housekeeping:
            self._tasks.append(asyncio.create_task(self._housekeeping()))

    async def stop(self) -> None:
        """Let each finish the call that it is in."""
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def for_seconds(self, names: Iterable[str], seconds: float) -> None:
        """Run for a while."""
        self.start(names)
        await asyncio.sleep(seconds)
        await self.stop()

    async def until(self, acknowledged: int) -> None:
        """Wait until so many calls more were acknowledged."""
        wanted = self.ledger.acknowledged + acknowledged
        async with asyncio.timeout(PATIENCE):
            while self.ledger.acknowledged < wanted:
                if failed := [task for task in self._tasks if task.done() and not task.cancelled()]:
                    await failed[0]
                await asyncio.sleep(0.005)

    async def _caller(self, slot: Slot) -> None:
        while not self._stopped.is_set():
            if len({state.generation for state in slot.possible if state}) > 1:
                await self._settle(slot)
                continue
            [name] = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            await getattr(self, "_" + name.replace(" ", "_"))(slot)

    async def _housekeeping(self) -> None:
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(10 * PATIENCE):  # many statements, each of which waits its turn
                    async for _ in self.storage.sessions():
                        pass
                    await self.storage.purge()
            except StorageUnavailable as error:
                self.ledger.saw(error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 0.1)

    async def _change(self, slot: Slot, becomes: State | None, call: Callable[[], Awaitable[Any]]) -> None:
        self.ledger.begin(slot.name, becomes)
        try:
            async with asyncio.timeout(PATIENCE):
                await call()
        except (SessionConflict, SessionNotFound, ProviderFailed) as error:
            self.ledger.end(slot.name, "failed", None if isinstance(error, ProviderFailed) else error)
        except StorageUnavailable as error:
            self.ledger.end(slot.name, "unknown", error)
            await asyncio.sleep(HURT)
        except TimeoutError:
            self.ledger.end(slot.name, "unknown", "Hung")
            self.ledger.found("stray", f"a call hung for {PATIENCE} seconds")
        except asyncio.CancelledError:
            self.ledger.end(slot.name, "unknown")
            raise
        else:
            self.ledger.end(slot.name, "acknowledged")

    def _next(self, slot: Slot) -> tuple[str, State, bytes]:
        state = State(slot.current, slot.sequence + 1)
        data = payload(slot.name, state.sequence, self._random.randrange(SMALL))
        return session_id(slot.name, slot.current), state, data

    async def _write(self, slot: Slot) -> None:
        id, state, data = self._next(slot)
        await self._change(slot, state, lambda: self.storage.write_bytes(id, data, subject=slot.name))

    async def _write_if_it_is_the_version(self, slot: Slot) -> None:
        id, state, data = self._next(slot)
        try:
            info = await self.storage.info(id)
        except StorageUnavailable as error:
            self.ledger.saw(error)
            return
        version = 0 if info is None else info.version
        await self._change(
            slot, state, lambda: self.storage.write_bytes(id, data, subject=slot.name, if_match=version)
        )

    def _large_data(self, slot: Slot, sequence: int) -> bytes:
        return payload(slot.name, sequence, self._random.randrange(SMALL, self._large))

    async def _write_large(self, slot: Slot) -> None:
        id, state, _ = self._next(slot)
        data = self._large_data(slot, state.sequence)
        provider = _pieces(data)
        await self._change(slot, state, lambda: self.storage.write(id, provider, subject=slot.name))

    async def _write_and_fail(self, slot: Slot) -> None:
        id, state, _ = self._next(slot)
        data = self._large_data(slot, state.sequence)
        await self._change(slot, state, lambda: self.storage.write(id, _pieces(data, fail=True)))

    async def _write_and_leave(self, slot: Slot) -> None:
        """A caller whose own patience ends, at any moment."""
        id, state, data = self._next(slot)

        async def leave() -> None:
            try:
                async with asyncio.timeout(self._random.random() * 0.01):
                    await self.storage.write_bytes(id, data, subject=slot.name)
            except TimeoutError:
                raise asyncio.CancelledError from None

        with suppress(asyncio.CancelledError):
            await self._change(slot, state, leave)

    async def _read(self, slot: Slot) -> None:
        id = session_id(slot.name, slot.current)
        try:
            async with asyncio.timeout(PATIENCE):
                snapshot = await self.storage.load(id)
        except StorageUnavailable as error:
            self.ledger.saw(error)
            await asyncio.sleep(HURT)
        else:
            self.ledger.read(slot.name, slot.current, snapshot.data if snapshot else None)

    async def _read_slowly(self, slot: Slot) -> None:
        async def consumer(channel: ByteReadChannel) -> bytes:
            pieces = []
            async for piece in channel:
                pieces.append(piece)
                await asyncio.sleep(0.001)
            return b"".join(pieces)

        try:
            async with asyncio.timeout(PATIENCE):
                data = await self.storage.read(session_id(slot.name, slot.current), consumer)
        except SessionNotFound:
            self.ledger.read(slot.name, slot.current, None)
        except StorageUnavailable as error:
            self.ledger.saw(error)
            await asyncio.sleep(HURT)
        else:
            self.ledger.read(slot.name, slot.current, data)

    async def _touch(self, slot: Slot) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self.storage.touch(
                    session_id(slot.name, slot.current), ttl=self._random.randrange(10**5, 10**6)
                )
        except StorageUnavailable as error:
            self.ledger.saw(error)

    async def _rotate(self, slot: Slot) -> None:
        if len(slot.possible) > 1 or None in slot.possible:
            await self._write(slot)  # so that it is known what the new id gets
            return
        [state] = slot.possible
        assert state is not None
        becomes = State(slot.generation + 1, state.sequence)
        ids = session_id(slot.name, slot.current), session_id(slot.name, becomes.generation)
        await self._change(slot, becomes, lambda: self.storage.rotate(*ids))

    async def _invalidate(self, slot: Slot) -> None:
        id = session_id(slot.name, slot.current)
        await self._change(slot, None, lambda: self.storage.invalidate(id))

    async def _invalidate_key(self, slot: Slot) -> None:
        key = sha256(session_id(slot.name, slot.current).encode()).hexdigest()
        await self._change(slot, None, lambda: self.storage.invalidate_key(key))

    async def _revoke(self, slot: Slot) -> None:
        await self._change(slot, None, lambda: self.storage.revoke(slot.name))

    async def _settle(self, slot: Slot) -> None:
        """After a rotation of unknown outcome: end the old id, and then what it may have become."""
        generations = sorted({state.generation for state in slot.possible if state is not None})

        async def end() -> None:
            for generation in generations:
                await self.storage.invalidate(session_id(slot.name, generation))

        await self._change(slot, None, end)


def _pieces(data: bytes, *, fail: bool = False) -> Callable[[ByteWriteChannel], Awaitable[None]]:
    async def provider(channel: ByteWriteChannel) -> None:
        for start in range(0, len(data), 50_000):
            await channel.write(data[start : start + 50_000])
            await asyncio.sleep(0)
        if fail:
            raise ProviderFailed

    return provider
