"""A touch extends a session and does nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from .. import KEEP, ManagedSessionStorage, SessionInfo
from ._base import PATIENCE, Contract, small_and_large, state
from .clock import ManualClock


class Touching(Contract):
    @small_and_large
    async def test_a_touch_moves_the_expiry_and_nothing_else(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        written = await managed.write_bytes("id", self.blob(size), ttl=100, subject="ann")
        clock.advance(60.5)
        touched = await managed.touch("id")
        assert touched is not None
        expires_at = clock.now + timedelta(seconds=100)
        assert touched == replace(written, expires_at=expires_at, used_at=touched.used_at)
        assert await state(managed, "id") == (self.blob(size), touched)
        clock.advance(99.999)
        assert await managed.read_bytes("id") == self.blob(size)
        clock.advance(0.001)
        assert await managed.info("id") is None

    async def test_a_touch_that_gains_little_writes_nothing(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        written = await managed.write_bytes("id", b"data", ttl=1000)
        for _ in range(7):
            clock.advance(7)
            assert await managed.touch("id") == written
        clock.advance(1)
        touched = await managed.touch("id")
        assert touched is not None
        assert touched.expires_at == clock.now + timedelta(seconds=1000)

    async def test_a_shorter_idle_timeout_does_not_move_the_expiry_back(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        written = await managed.write_bytes("id", b"data", ttl=1000)
        assert await managed.touch("id", ttl=10) == written
        assert await managed.info("id") == written
        clock.advance(995)
        touched = await managed.touch("id")
        assert touched is not None
        assert touched.expires_at == clock.now + timedelta(seconds=10)

    async def test_a_touch_can_keep_the_expiry(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        written = await managed.write_bytes("id", b"data", ttl=100)
        clock.advance(50)
        assert await managed.touch("id", ttl=KEEP) == written
        assert await managed.info("id") == written
        clock.advance(50)
        assert await managed.touch("id", ttl=KEEP) is None

    async def test_a_longer_idle_timeout_counts_at_once_and_stays(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("id", b"1", ttl=1000)
        touched = await managed.touch("id", ttl=1001.5)
        assert touched is not None
        assert touched.expires_at == clock.now + timedelta(seconds=1001.5)
        clock.advance(500)
        rewritten = await managed.write_bytes("id", b"2")
        assert rewritten.expires_at == clock.now + timedelta(seconds=1001.5)

    async def test_a_touch_can_take_the_idle_timeout_away(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("a", b"1", ttl=100, max_age=None)
        await managed.write_bytes("b", b"1", ttl=100, max_age=200)
        ends = clock.now + timedelta(seconds=200)
        for id, expected in ("a", None), ("b", ends):
            touched = await managed.touch(id, ttl=None)
            assert touched is not None
            assert touched.expires_at == expected
            assert await managed.info(id) == touched
            assert (await managed.write_bytes(id, b"2")).expires_at == expected

    async def test_a_session_that_never_ends_is_not_ended_by_a_touch(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        written = await managed.write_bytes("id", b"data", ttl=None, max_age=None)
        assert await managed.touch("id") == written
        assert await managed.touch("id", ttl=10) == written
        clock.advance(1000)
        assert await managed.info("id") == written

    async def test_a_touch_does_not_pass_the_absolute_end(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("id", b"data", ttl=100, max_age=120)
        ends = clock.now + timedelta(seconds=120)
        for ttl in (100, 10_000):
            clock.advance(50)
            touched = await managed.touch("id", ttl=ttl)
            assert touched is not None
            assert touched.expires_at == ends
        clock.advance(20)
        assert await managed.touch("id") is None

    async def test_a_clock_that_steps_back_does_not_move_the_expiry_back(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        written = await managed.write_bytes("id", b"data", ttl=100)
        clock.advance(-50)
        assert await managed.touch("id") == written
        assert await managed.info("id") == written

    @pytest.mark.parametrize("round", range(3))
    @small_and_large
    async def test_touches_and_writes_at_once_lose_neither(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str, round: int
    ) -> None:
        await managed.write_bytes("id", self.blob(size), ttl=100)
        clock.advance(50)
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(
                *(managed.touch("id", ttl=100 + step) for step in range(5)),
                managed.write_bytes("id", self.blob(size, round + 1), ttl=1000),
                *(managed.touch("id") for _ in range(5)),
            )
        written = results[5]
        assert isinstance(written, SessionInfo)
        assert await state(managed, "id") == (self.blob(size, round + 1), written)
        assert written.expires_at == clock.now + timedelta(seconds=1000)

    @pytest.mark.parametrize("round", range(3))
    async def test_touches_do_not_bring_an_invalidated_session_back(
        self, managed: ManagedSessionStorage, clock: ManualClock, round: int
    ) -> None:
        await managed.write_bytes("id", self.blob("small", round), ttl=100)
        clock.advance(50)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                *(managed.touch("id", ttl=200 + step) for step in range(10)),
                managed.invalidate("id"),
                *(managed.touch("id", ttl=300 + step) for step in range(10)),
            )
        assert await managed.info("id") is None
