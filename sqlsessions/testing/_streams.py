"""Streams that take their time while others read, write and end the same session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from .. import ByteReadChannel, ManagedSessionStorage, SessionChanged, SessionNotFound, SessionStorage
from ._base import PATIENCE, Contract, Pause, small_and_large, whole
from .clock import ManualClock


class Streams(Contract):
    @small_and_large
    @pytest.mark.parametrize("meanwhile", ["overwritten", "overwritten by small", "invalidated", "all of it"])
    async def test_a_reader_goes_on_with_the_version_it_began(
        self, storage: SessionStorage, size: str, meanwhile: str
    ) -> None:
        await storage.write_bytes("id", self.blob(size, 1))
        pause = Pause()
        task = await pause.start(storage.read("id", pause.reading))
        if meanwhile in ("overwritten", "all of it"):
            await storage.write_bytes("id", self.blob("large", 2))
        if meanwhile in ("overwritten by small", "all of it"):
            await storage.write_bytes("id", b"new")
        if meanwhile in ("invalidated", "all of it"):
            await storage.invalidate("id")
        if meanwhile == "all of it":
            await storage.write_bytes("id", self.blob("large", 3))
        assert await pause.finish(task) == self.blob(size, 1)

    @pytest.mark.parametrize("ending", ["overwritten", "invalidated", "invalidated by key", "revoked"])
    async def test_a_superseded_version_stays_readable_for_a_minute(
        self, managed: ManagedSessionStorage, clock: ManualClock, ending: str
    ) -> None:
        info = await managed.write_bytes("id", self.blob("large", 1), subject="ann")
        clock.advance(3600)
        pause = Pause()
        task = await pause.start(managed.read("id", pause.reading))
        match ending:
            case "overwritten":
                await managed.write_bytes("id", self.blob("large", 2))
            case "invalidated":
                await managed.invalidate("id")
            case "invalidated by key":
                await managed.invalidate_key(info.key)
            case "revoked":
                await managed.revoke("ann")
        await managed.purge()
        clock.advance(59)
        await managed.purge()
        assert await pause.finish(task) == self.blob("large", 1)

    @small_and_large
    @pytest.mark.parametrize("age", [1, 120, 100_000])
    async def test_a_reader_of_a_session_that_expires_gets_all_of_it_or_an_error(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str, age: float
    ) -> None:
        await managed.write_bytes("id", self.blob(size), ttl=60)
        clock.advance(59)
        pause = Pause()
        task = await pause.start(managed.read("id", pause.reading))
        clock.advance(age)
        await managed.purge()
        try:
            assert await pause.finish(task) == self.blob(size)
        except SessionChanged:
            assert age > 60

    @small_and_large
    async def test_readers_never_see_a_mix(self, storage: SessionStorage, size: str) -> None:
        blobs = [self.blob(size, seed) + bytes([seed]) * seed for seed in range(8)]
        await storage.write_bytes("id", blobs[0])
        done = asyncio.Event()

        async def slow(channel: ByteReadChannel) -> bytes:
            pieces = []
            async for piece in channel:
                pieces.append(piece)
                await asyncio.sleep(0)
            return b"".join(pieces)

        async def reader(how: Callable[[], Awaitable[bytes]]) -> set[bytes]:
            seen = set()
            while not done.is_set():
                with suppress(SessionNotFound):
                    seen.add(await how())
                await asyncio.sleep(0)
            return seen

        async def writer() -> None:
            try:
                for data in blobs[1:]:
                    await storage.write_bytes("id", data)
                    await asyncio.sleep(0)
                    await storage.invalidate("id")
                await storage.write_bytes("id", blobs[0])
            finally:
                done.set()

        async with asyncio.timeout(PATIENCE):
            *seen, _ = await asyncio.gather(
                *(reader(lambda: storage.read("id", slow)) for _ in range(3)),
                *(reader(lambda: storage.read_bytes("id")) for _ in range(3)),
                writer(),
            )
        assert set().union(*(some for some in seen if some)) <= set(blobs)
        assert await storage.read_bytes("id") == blobs[0]

    @pytest.mark.parametrize("slow", ["small", "large"])
    @pytest.mark.parametrize("quick", ["small", "large"])
    async def test_of_two_writes_the_one_that_ends_last_stays(
        self, storage: SessionStorage, slow: str, quick: str
    ) -> None:
        pause = Pause()
        task = await pause.start(storage.write("id", pause.providing(self.blob(slow, 1), b"end")))
        for seed in (2, 3):
            await storage.write_bytes("id", self.blob(quick, seed))
            assert await storage.read_bytes("id") == self.blob(quick, seed)
        await pause.finish(task)
        assert await storage.read_bytes("id") == self.blob(slow, 1) + b"end"

    @small_and_large
    async def test_what_a_slow_provider_wrote_is_not_seen_before_its_end(
        self, storage: SessionStorage, size: str
    ) -> None:
        pause = Pause()
        task = await pause.start(storage.write("id", pause.providing(self.blob(size, 1))))
        with pytest.raises(SessionNotFound):
            await storage.read_bytes("id")
        await pause.finish(task)
        assert await storage.read_bytes("id") == self.blob(size, 1)

    async def test_a_purge_leaves_a_slow_write_alone(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        pause = Pause()
        task = await pause.start(
            managed.write("id", pause.providing(self.blob("large", 1), self.blob("large", 2)))
        )
        for _ in range(3):
            clock.advance(600)
            await managed.purge()
        await pause.finish(task)
        assert await managed.read_bytes("id") == self.blob("large", 1) + self.blob("large", 2)

    async def test_slow_streams_hold_nothing_that_others_need(self, storage: SessionStorage) -> None:
        streams: list[tuple[Pause, asyncio.Task[bytes | None]]] = []
        async with asyncio.timeout(PATIENCE):
            for seed in range(20):
                await storage.write_bytes(f"read {seed}", self.blob("large", seed))
                reader, writer = Pause(), Pause()
                write = storage.write(f"write {seed}", writer.providing(self.blob("large", seed)))
                streams.append((reader, await reader.start(storage.read(f"read {seed}", reader.reading))))
                streams.append((writer, await writer.start(write)))
            for size in ("small", "large"):
                await storage.write_bytes("quick", self.blob(size))
                assert await storage.read("quick", whole) == self.blob(size)
                await storage.invalidate("quick")
            results = [await pause.finish(task) for pause, task in streams]
            assert results[::2] == [self.blob("large", seed) for seed in range(20)]
            for seed in range(20):
                assert await storage.read_bytes(f"write {seed}") == self.blob("large", seed)
