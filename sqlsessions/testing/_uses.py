"""Contract: touches that note the use of a session, in storages with a ``touch_every``."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from .. import KEEP, ManagedSessionStorage, SessionInfo
from ._base import PATIENCE, Contract, listed, small_and_large, state
from .clock import ManualClock

LONG = 1000
"""How many times ``touch_every`` an idle timeout lasts of which a touch gains little."""
endless_and_long = pytest.mark.parametrize("ttl", [None, LONG], ids=["endless", "long"])


class Uses(Contract):
    """Touches that gain nothing but the time of the last use. A storage may have none."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def noting(self, managed: ManagedSessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it was asked to note uses."""
        if self.touch_every is None:
            pytest.skip(f"{type(self).__name__} sets no touch_every")
        return managed

    @pytest.fixture
    def every(self) -> float:
        """How often it does, in seconds."""
        return self.touch_every or 0.0

    async def test_it_tells_how_often(self, noting: ManagedSessionStorage, every: float) -> None:
        assert getattr(noting, "touch_every", None) == every

    @small_and_large
    @endless_and_long
    async def test_a_use_is_noted_once_it_is_due(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float, ttl: int | None, size: str
    ) -> None:
        kept = await noting.write_bytes(
            "id", self.blob(size), ttl=ttl and ttl * every, max_age=None, subject="ann"
        )
        for _ in range(3):
            clock.advance(every - 1)
            assert await noting.touch("id") == kept
            clock.advance(1)
            touched = await noting.touch("id")
            assert touched == replace(kept, used_at=clock.now)
            assert await state(noting, "id") == (self.blob(size), touched)
            assert await listed(noting, "ann") == [touched]
            kept = touched

    async def test_a_use_is_noted_though_the_end_is_fixed(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        written = await noting.write_bytes("id", b"data", ttl=10 * every, max_age=5 * every)
        for _ in range(4):
            clock.advance(every)
            assert await noting.touch("id") == replace(written, used_at=clock.now)
        clock.advance(every)
        assert await noting.touch("id") is None

    async def test_a_touch_that_gains_enough_is_written_before(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        written = await noting.write_bytes("id", b"data", ttl=every)
        clock.advance(every / 25)
        assert await noting.touch("id") == written
        clock.advance(every / 25)
        end = clock.now + timedelta(seconds=every)
        assert await noting.touch("id") == replace(written, expires_at=end, used_at=clock.now)

    async def test_a_use_that_was_noted_keeps_no_touch_from_extending(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        written = await noting.write_bytes("id", b"data", ttl=30 * every)
        clock.advance(every)
        assert await noting.touch("id") == replace(written, used_at=clock.now)
        clock.advance(every / 2)
        end = clock.now + timedelta(seconds=30 * every)
        assert await noting.touch("id") == replace(written, expires_at=end, used_at=clock.now)

    async def test_a_use_is_noted_by_a_touch_that_keeps_the_expiry(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        written = await noting.write_bytes("id", b"data", ttl=5 * every)
        for _ in range(4):
            clock.advance(every)
            touched = await noting.touch("id", ttl=KEEP)
            assert touched == replace(written, used_at=clock.now)
            assert await noting.info("id") == touched
        clock.advance(every)
        assert await noting.touch("id", ttl=KEEP) is None

    async def test_a_write_is_a_use(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        await noting.write_bytes("id", b"1", ttl=None, max_age=None)
        clock.advance(every - 1)
        written = await noting.write_bytes("id", b"2")
        clock.advance(every - 1)
        assert await noting.touch("id") == written
        clock.advance(1)
        touched = await noting.touch("id")
        assert touched == replace(written, used_at=clock.now)
        moved = await noting.rotate("id", "new")
        assert moved == replace(touched, key=moved.key)
        assert await noting.touch("new") == moved

    async def test_a_clock_that_steps_back_takes_no_use_back(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        await noting.write_bytes("id", b"data", ttl=None, max_age=None)
        clock.advance(every)
        touched = await noting.touch("id")
        clock.advance(-2 * every)
        assert await noting.touch("id") == touched
        clock.advance(3 * every - 1)
        assert await noting.touch("id") == touched

    @endless_and_long
    async def test_touches_at_once_note_one_use(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float, ttl: int | None
    ) -> None:
        written = await noting.write_bytes("id", b"data", ttl=ttl and ttl * every, max_age=None)
        for _ in range(3):
            clock.advance(every)
            async with asyncio.timeout(PATIENCE):
                touched = await asyncio.gather(*(noting.touch("id") for _ in range(20)))
            assert touched == [replace(written, used_at=clock.now)] * 20
            assert await noting.info("id") == touched[0]

    async def test_uses_and_a_write_at_once_lose_neither(
        self, noting: ManagedSessionStorage, clock: ManualClock, every: float
    ) -> None:
        await noting.write_bytes("id", b"1", ttl=None, max_age=None)
        clock.advance(every)
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(
                *(noting.touch("id") for _ in range(5)),
                noting.write_bytes("id", b"2", subject="ann"),
                *(noting.touch("id") for _ in range(5)),
            )
        written = results[5]
        assert isinstance(written, SessionInfo)
        found = await state(noting, "id")
        assert found is not None
        assert found[0] == b"2"
        assert found[1] == replace(written, used_at=found[1].used_at)
        assert found[1].used_at in (clock.now, written.updated_at)
