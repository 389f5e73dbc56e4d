"""The idle timeout, the absolute one, and both together."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from .. import (
    DEFAULT,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionInfo,
    SessionNotFound,
)
from ._base import Contract, small_and_large, state
from .clock import ManualClock

DAY = 24 * 60 * 60.0
OUT_OF_RANGE = [
    0,
    -1,
    -0.5,
    math.nan,
    math.inf,
    -math.inf,
    1001 * 366 * DAY,
    timedelta(0),
    timedelta(seconds=-1),
]
NO_DURATION = [True, "10", b"10", [10]]


class Lifetime(Contract):
    @small_and_large
    @pytest.mark.parametrize("span", [0.01, 0.25, 60, 60.5, DAY * 400])
    @pytest.mark.parametrize("name", ["ttl", "max_age"])
    async def test_a_session_lives_to_the_end_of_its_time_and_no_longer(
        self, managed: ManagedSessionStorage, clock: ManualClock, name: str, span: float, size: str
    ) -> None:
        times: dict[str, Any] = {"ttl": None, "max_age": None, name: span}
        info = await managed.write_bytes("id", self.blob(size), **times)
        assert _left(info, clock) == span
        clock.advance(span - 0.001)
        assert await managed.info("id") == info
        assert await managed.read_bytes("id") == self.blob(size)
        clock.advance(0.001)
        assert await managed.info("id") is None
        with pytest.raises(SessionNotFound):
            await managed.read_bytes("id")

    async def test_a_timedelta_is_as_good_as_seconds(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        info = await managed.write_bytes("a", b"1", ttl=timedelta(minutes=1, milliseconds=5), max_age=None)
        assert _left(info, clock) == 60.005
        info = await managed.write_bytes("b", b"1", ttl=None, max_age=timedelta(days=2))
        assert _left(info, clock) == 2 * DAY

    async def test_none_is_never(self, managed: ManagedSessionStorage, clock: ManualClock) -> None:
        info = await managed.write_bytes("id", b"data", ttl=None, max_age=None)
        assert info.expires_at is None
        clock.advance(500 * 365 * DAY)
        assert await managed.read_bytes("id") == b"data"
        assert await managed.purge() == 0
        assert await managed.info("id") == info

    async def test_the_earlier_of_both_ends_counts(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        assert _left(await managed.write_bytes("a", b"1", ttl=60, max_age=90), clock) == 60
        assert _left(await managed.write_bytes("b", b"1", ttl=90, max_age=60), clock) == 60
        clock.advance(60)
        assert await managed.info("a") is None
        assert await managed.info("b") is None

    @small_and_large
    async def test_the_absolute_end_is_moved_by_no_write_or_touch(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await managed.write_bytes("id", self.blob(size), ttl=100, max_age=250)
        for step, left in enumerate([100, 90, 10]):
            clock.advance(80)
            await managed.touch("id")
            info = await managed.write_bytes("id", self.blob(size, step + 1))
            assert _left(info, clock) == left
        clock.advance(10)
        assert await managed.info("id") is None

    async def test_a_rewrite_keeps_the_idle_timeout_of_the_session(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        for ttl in (5.5, 400 * DAY):
            await managed.write_bytes("id", b"1", ttl=ttl)
            clock.advance(2)
            assert _left(await managed.write_bytes("id", b"2"), clock) == ttl
            clock.advance(2)
            assert _left(await managed.write_bytes("id", b"3", ttl=DEFAULT, max_age=DEFAULT), clock) == ttl
        await managed.write_bytes("id", b"4", ttl=None)
        assert (await managed.write_bytes("id", b"5")).expires_at is None

    async def test_a_new_idle_timeout_of_a_live_session_stays(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("id", b"1", ttl=1000)
        for data, ttl in (b"2", 2000), (b"3", 10):
            assert _left(await managed.write_bytes("id", data, ttl=ttl), clock) == ttl
            clock.advance(1)
            assert _left(await managed.write_bytes("id", data + b"again"), clock) == ttl

    async def test_a_new_absolute_timeout_counts_from_the_creation(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("id", b"1", ttl=None, max_age=None)
        clock.advance(100)
        assert _left(await managed.write_bytes("id", b"2", max_age=150), clock) == 50
        assert _left(await managed.write_bytes("id", b"3", max_age=300), clock) == 200
        assert (await managed.write_bytes("id", b"4", max_age=None)).expires_at is None
        await managed.write_bytes("id", b"5", max_age=50)
        assert await managed.info("id") is None

    async def test_durations_out_of_range_are_refused(self, managed: ManagedSessionStorage) -> None:
        for value in OUT_OF_RANGE:
            await self._refused(managed, InvalidArgument, value)

    async def test_what_is_no_duration_is_refused(self, managed: ManagedSessionStorage) -> None:
        for value in NO_DURATION:
            await self._refused(managed, InvalidArgumentType, value)

    async def _refused(self, managed: ManagedSessionStorage, error: type[Exception], value: Any) -> None:
        await managed.write_bytes("id", b"old", ttl=60)
        before = await state(managed, "id")
        for name in ("ttl", "max_age"):
            for data in (b"new", self.blob("large")):
                with pytest.raises(error, match=name):
                    await managed.write_bytes("id", data, **{name: value})
        with pytest.raises(error, match="ttl"):
            await managed.touch("id", ttl=value)
        assert await state(managed, "id") == before


def _left(info: SessionInfo, clock: ManualClock) -> float:
    """Seconds until a session ends."""
    assert info.expires_at is not None
    assert info.expires_at.utcoffset() == timedelta(0)
    return (info.expires_at - clock.now).total_seconds()
