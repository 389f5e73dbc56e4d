"""Conditional writes, and the versions that they go by."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from .. import (
    ByteWriteChannel,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    Provider,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
)
from ._base import PATIENCE, Contract, Pause, provider_of, small_and_large, state
from .clock import ManualClock


class Conditions(Contract):
    async def test_versions_are_positive_63_bit_integers_that_increase(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        versions = []
        for step, pause in enumerate([0, 0, 0, 0.0001, 1, 1000, -60, 0, 1e9]):
            clock.advance(pause)
            versions.append((await managed.write_bytes("id", b"%d" % step, ttl=None, max_age=None)).version)
            clock.advance(0.5)
        assert versions == sorted(set(versions))
        assert all(type(version) is int and 0 < version < 2**63 for version in versions)

    @small_and_large
    async def test_zero_asks_for_no_live_session(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await managed.write_bytes("id", self.blob(size, 1), ttl=10, if_match=0)
        before = await state(managed, "id")
        for new in ("small", "large"):
            with pytest.raises(SessionConflict):
                await managed.write_bytes("id", self.blob(new, 2), if_match=0, ttl=1000, subject="bob")
        assert await state(managed, "id") == before
        clock.advance(10)
        await managed.write_bytes("id", self.blob(size, 3), if_match=0)
        await managed.invalidate("id")
        await managed.write_bytes("id", self.blob(size, 4), if_match=0)
        assert await managed.read_bytes("id") == self.blob(size, 4)

    @pytest.mark.parametrize("new", ["small", "large"])
    @pytest.mark.parametrize("old", ["small", "large"])
    async def test_a_version_asks_for_just_that_one(
        self, managed: ManagedSessionStorage, old: str, new: str
    ) -> None:
        first = await managed.write_bytes("id", self.blob(old, 1), subject="ann")
        other = await managed.write_bytes("other", self.blob(old, 2))
        second = await managed.write_bytes("id", self.blob(old, 3), if_match=first.version)
        before = await state(managed, "id")
        for version in (first.version, second.version - 1, second.version + 1, other.version, 1, 2**63 - 1):
            with pytest.raises(SessionConflict):
                await managed.write(
                    "id", provider_of(self.blob(new, 4)), if_match=version, ttl=5, subject=None
                )
        assert await state(managed, "id") == before
        third = await managed.write("id", provider_of(self.blob(new, 5)), if_match=second.version)
        assert await state(managed, "id") == (self.blob(new, 5), third)

    @small_and_large
    @pytest.mark.parametrize("ending", ["never written", "invalidated", "revoked", "expired", "purged"])
    async def test_a_conditional_write_does_not_bring_a_session_back(
        self, managed: ManagedSessionStorage, clock: ManualClock, ending: str, size: str
    ) -> None:
        version = 1
        if ending != "never written":
            version = (await managed.write_bytes("id", self.blob(size, 1), ttl=10, subject="ann")).version
        if ending == "invalidated":
            await managed.invalidate("id")
        elif ending == "revoked":
            await managed.revoke("ann")
        elif ending in ("expired", "purged"):
            clock.advance(10)
            await managed.purge() if ending == "purged" else None
        for data in (self.blob(size, 1), self.blob(size, 2)):
            with pytest.raises(SessionConflict):
                await managed.write_bytes("id", data, if_match=version)
        assert await managed.info("id") is None
        with pytest.raises(SessionNotFound):
            await managed.read_bytes("id")

    async def test_an_id_used_again_does_not_get_its_old_versions(
        self, managed: ManagedSessionStorage
    ) -> None:
        versions = []
        for _ in range(5):
            versions.append((await managed.write_bytes("id", b"the same")).version)
            await managed.invalidate("id")
        assert len(set(versions)) == 5

    @pytest.mark.parametrize("new", ["small", "large"])
    @pytest.mark.parametrize("meanwhile", ["invalidated", "overwritten", "overwritten large", "expired"])
    async def test_the_condition_holds_at_the_end_of_the_provider(
        self, managed: ManagedSessionStorage, clock: ManualClock, meanwhile: str, new: str
    ) -> None:
        version = (await managed.write_bytes("id", b"old", ttl=10)).version
        pause = Pause()
        task = await pause.start(managed.write("id", pause.providing(self.blob(new, 1)), if_match=version))
        match meanwhile:
            case "invalidated":
                await managed.invalidate("id")
            case "overwritten":
                await managed.write_bytes("id", b"newer")
            case "overwritten large":
                await managed.write_bytes("id", self.blob("large", 2))
            case "expired":
                clock.advance(10)
        before = await state(managed, "id")
        with pytest.raises(SessionConflict):
            await pause.finish(task)
        assert await state(managed, "id") == before

    @small_and_large
    async def test_a_session_made_while_the_provider_ran_counts(
        self, managed: ManagedSessionStorage, size: str
    ) -> None:
        pause = Pause()
        task = await pause.start(managed.write("id", pause.providing(self.blob(size, 1)), if_match=0))
        await managed.write_bytes("id", b"first")
        with pytest.raises(SessionConflict):
            await pause.finish(task)
        assert await managed.read_bytes("id") == b"first"

    @pytest.mark.parametrize("old", ["missing", "small", "large"])
    @small_and_large
    async def test_of_writers_on_one_version_exactly_one_wins(
        self, managed: ManagedSessionStorage, size: str, old: str
    ) -> None:
        def slow(data: bytes) -> Provider:
            async def provider(channel: ByteWriteChannel) -> None:
                await asyncio.sleep(0)
                await channel.write(data)
                await asyncio.sleep(0)

            return provider

        for writers in range(2, 11, 2):
            id, version = f"of {writers}", 0
            if old != "missing":
                version = (await managed.write_bytes(id, self.blob(old, 99))).version
            blobs = [self.blob(size, seed) for seed in range(writers)]
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(
                    *(managed.write(id, slow(data), if_match=version) for data in blobs),
                    return_exceptions=True,
                )
            won = [seed for seed, result in enumerate(results) if isinstance(result, SessionInfo)]
            assert len(won) == 1
            assert all(isinstance(result, SessionConflict | SessionInfo) for result in results)
            assert await state(managed, id) == (blobs[won[0]], results[won[0]])

    @pytest.mark.parametrize("padding", ["empty", "inline+1"])
    async def test_increments_with_a_condition_lose_nothing(
        self, managed: ManagedSessionStorage, padding: str
    ) -> None:
        async def increment() -> None:
            while True:
                snapshot = await managed.load("id")
                count = int(snapshot.data[:8]) if snapshot else 0
                data = b"%08d" % (count + 1) + self.blob(padding)
                try:
                    await managed.write_bytes("id", data, if_match=snapshot.info.version if snapshot else 0)
                except SessionConflict:
                    continue
                return

        async def worker() -> None:
            for _ in range(4):
                await increment()

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(worker() for _ in range(6)))
        assert (await managed.read_bytes("id"))[:8] == b"%08d" % 24

    async def test_what_can_be_no_version_is_refused(self, managed: ManagedSessionStorage) -> None:
        refused: list[tuple[Any, type[Exception]]] = [(-1, InvalidArgument), (2**63, InvalidArgument)]
        refused += [(value, InvalidArgumentType) for value in (True, False, "1", 1.0, b"1")]
        for (if_match, error), data in product(refused, (b"new", self.blob("large"))):
            with pytest.raises(error, match="if_match"):
                await managed.write_bytes("id", data, if_match=if_match)
        assert await managed.info("id") is None
