"""The purge deletes what has expired, in batches, and nothing else."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest

from .. import InvalidArgument, InvalidArgumentType, ManagedSessionStorage
from ._base import PATIENCE, Contract, listed, small_and_large, state
from .clock import ManualClock

HOUR = 3600.0


class Purging(Contract):
    @small_and_large
    @pytest.mark.parametrize("late", [0, 1, 2 * HOUR, 1000 * HOUR])
    async def test_purge_deletes_expired_sessions_and_counts_them(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str, late: float
    ) -> None:
        for number in range(5):
            await managed.write_bytes(f"idle {number}", self.blob(size, number), ttl=60)
            await managed.write_bytes(f"old {number}", self.blob(size, number), ttl=None, max_age=60)
        live = await managed.write_bytes("live", self.blob(size, 9), ttl=None, max_age=None)
        assert await managed.purge() == 0
        clock.advance(60 + late)
        assert await managed.purge() == 10
        assert await managed.purge() == 0
        assert await listed(managed) == [live]
        assert await managed.read_bytes("live") == self.blob(size, 9)

    async def test_purge_goes_batch_by_batch(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        for number in range(25):
            await managed.write_bytes(f"id {number}", b"data", ttl=10 + number % 3)
        live = await managed.write_bytes("live", b"data", ttl=1000)
        clock.advance(20)
        counts = [await managed.purge(batch_size=4, max_batches=2) for _ in range(3)]
        assert all(0 < count <= 8 for count in counts)
        assert sum(counts) + await managed.purge(batch_size=3) == 25
        assert await listed(managed) == [live]

    @small_and_large
    async def test_purge_leaves_what_was_extended(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        for id in ("touched", "rewritten", "rotated", "forever", "longer"):
            await managed.write_bytes(id, self.blob(size, 1), ttl=HOUR)
        for _ in range(4):
            clock.advance(HOUR * 0.9)
            await managed.touch("touched")
            await managed.write_bytes("rewritten", self.blob(size, 2))
            await managed.touch("rotated")
            await managed.touch("forever", ttl=None)
            await managed.touch("longer", ttl=9 * HOUR)
        await managed.rotate("rotated", "new")
        before = {id: await state(managed, id) for id in ("touched", "rewritten", "new", "forever", "longer")}
        assert await managed.purge() == 0
        assert await managed.purge(batch_size=1) == 0
        assert {id: await state(managed, id) for id in before} == before
        clock.advance(HOUR)
        assert await managed.purge() == 3
        assert {info.key for info in await listed(managed)} == {
            kept[1].key for id in ("forever", "longer") if (kept := before[id])
        }

    async def test_purge_takes_what_was_shortened(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("forever", b"1", ttl=None, max_age=None)
        await managed.write_bytes("long", b"1", ttl=1000 * HOUR)
        for id in ("forever", "long"):
            await managed.write_bytes(id, b"2", ttl=60)
        clock.advance(60)
        assert await managed.purge() == 2

    async def test_purge_does_not_count_what_ended_otherwise(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        for id in ("invalidated", "revoked", "rotated"):
            await managed.write_bytes(id, self.blob("large"), ttl=60, subject=id)
        await managed.invalidate("invalidated")
        await managed.revoke("revoked")
        await managed.rotate("rotated", "new")
        clock.advance(1000 * HOUR)
        assert await managed.purge() == 1

    async def test_purges_at_once_delete_each_session_once(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        for number in range(40):
            await managed.write_bytes(f"id {number}", b"data", ttl=60)
        clock.advance(60)
        async with asyncio.timeout(PATIENCE):
            counts = await asyncio.gather(
                *(managed.purge(batch_size=5) for _ in range(4)),
                *(managed.write_bytes(f"new {number}", b"data", ttl=60) for number in range(10)),
            )
        assert sum(count for count in counts if isinstance(count, int)) + await managed.purge() == 40
        assert len(await listed(managed)) == 10

    async def test_purge_refuses_batches_that_are_none(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("id", b"data", ttl=60)
        clock.advance(60)
        refused: list[tuple[Any, type[Exception]]] = [(value, InvalidArgument) for value in (0, -1)]
        refused += [(value, InvalidArgumentType) for value in ("10", 1.5)]
        for name, (value, error) in product(("batch_size", "max_batches"), refused):
            with pytest.raises(error, match=name):
                await managed.purge(**{name: value})
        with pytest.raises(InvalidArgument, match="batch_size"):
            await managed.purge(batch_size=10_001)
        assert await managed.purge(batch_size=10_000, max_batches=1) == 1
