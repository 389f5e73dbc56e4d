"""What a cache holds, for how long, and what it says about it."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import CacheStorage, SessionNotFound
from sqlsessions.cache import CacheStatistics
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of, whole

from .support import CHANGES, Recorder, by_pieces


async def test_reads_are_counted(cache: CacheStorage, delegate: Recorder) -> None:
    await delegate.write_bytes("id", b"12345")
    assert cache.statistics == CacheStatistics(hits=0, misses=0, evictions=0, entries=0, bytes=0)
    assert await cache.read("id", whole) == b"12345"
    assert cache.statistics == CacheStatistics(hits=0, misses=1, evictions=0, entries=1, bytes=5)
    assert await cache.read("id", whole) == await cache.read_bytes("id") == b"12345"
    snapshot = await cache.load("id")
    assert snapshot is not None
    assert snapshot.info == await cache.info("id")
    assert cache.statistics == CacheStatistics(hits=4, misses=1, evictions=0, entries=1, bytes=5)
    assert delegate.calls["read"] == 1
    assert delegate.calls["info"] == 0


async def test_a_session_that_is_not_there_is_asked_for_each_time(
    cache: CacheStorage, delegate: Recorder
) -> None:
    for _ in range(2):
        with pytest.raises(SessionNotFound):
            await cache.read_bytes("id")
        assert await cache.load("id") is None
        assert await cache.info("id") is None
    assert cache.statistics == CacheStatistics(hits=0, misses=6, evictions=0, entries=0, bytes=0)
    await delegate.write_bytes("id", b"there now")
    assert await cache.read_bytes("id") == b"there now"


async def test_what_was_written_is_held(cache: CacheStorage, delegate: Recorder) -> None:
    for data in (b"1234567", b"123"):
        info = await cache.write("id", provider_of(data[:2], data[2:]), subject="ann")
        snapshot = await cache.load("id")
        assert snapshot is not None
        assert (snapshot.data, snapshot.info) == (data, info)
        assert cache.statistics.bytes == len(data)
    assert delegate.calls["read"] == 0


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "write"])
async def test_what_ends_a_session_lets_its_entry_go(cache: CacheStorage, change: str) -> None:
    await cache.write_bytes("id", b"12345", subject="ann")
    await CHANGES[change](cache)
    assert (cache.statistics.entries, cache.statistics.bytes) == (0, 0)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_revoke_drops_what_another_process_gave_the_subject(
    cache: CacheStorage, delegate: Recorder
) -> None:
    await cache.write_bytes("id", b"data", subject="bob")
    await delegate.write_bytes("id", b"data", subject="ann")
    assert await cache.revoke("ann") == 1
    assert await cache.load("id") is None


async def test_the_least_recently_used_goes_first_by_bytes(clock: ManualClock) -> None:
    delegate = Recorder(clock=clock)
    cache = CacheStorage(delegate, max_bytes=10)
    for id in "abc":
        await delegate.write_bytes(id, b"1234")
    await cache.read_bytes("a")
    await cache.read_bytes("b")
    await cache.read_bytes("a")
    await cache.read_bytes("c")
    assert cache.statistics == CacheStatistics(hits=1, misses=3, evictions=1, entries=2, bytes=8)
    await cache.read_bytes("a")
    await cache.read_bytes("c")
    assert delegate.calls["read"] == 3
    await cache.read_bytes("b")
    assert delegate.calls["read"] == 4


async def test_one_large_entry_takes_the_room_of_several(clock: ManualClock) -> None:
    cache = CacheStorage(Recorder(clock=clock), max_bytes=10)
    for id in "abc":
        await cache.write_bytes(id, b"123")
    await cache.write_bytes("d", b"123456789")
    assert cache.statistics == CacheStatistics(hits=0, misses=0, evictions=3, entries=1, bytes=9)
    await cache.write_bytes("e", b"1")
    assert cache.statistics.bytes == 10


async def test_the_number_of_entries_is_bounded(clock: ManualClock) -> None:
    cache = CacheStorage(Recorder(clock=clock), max_entries=2)
    for id in "abc":
        await cache.write_bytes(id, b"")
    assert cache.statistics == CacheStatistics(hits=0, misses=0, evictions=1, entries=2, bytes=0)
    await cache.read_bytes("b")
    assert cache.statistics.hits == 1


async def test_an_entry_lives_while_it_is_used(clock: ManualClock) -> None:
    delegate = Recorder(clock=clock)
    cache = CacheStorage(delegate, idle_timeout=10)
    await cache.write_bytes("id", b"data")
    for _ in range(3):
        clock.advance(9.9999)
        await cache.read_bytes("id")
    assert delegate.calls["read"] == 0
    clock.advance(10)
    await cache.read_bytes("id")
    assert delegate.calls["read"] == 1


async def test_idle_entries_make_room_for_others(clock: ManualClock) -> None:
    cache = CacheStorage(Recorder(clock=clock), idle_timeout=10)
    await cache.write_bytes("a", b"12345")
    clock.advance(6)
    await cache.write_bytes("b", b"123")
    clock.advance(6)
    await cache.write_bytes("c", b"1")
    assert cache.statistics == CacheStatistics(hits=0, misses=0, evictions=0, entries=2, bytes=4)


async def test_the_clock_is_the_delegates_or_a_given_one(clock: ManualClock) -> None:
    assert CacheStorage(Recorder(clock=clock)).clock is clock
    other = ManualClock()
    assert CacheStorage(Recorder(clock=clock), clock=other).clock is other


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "written"])
@pytest.mark.parametrize("option", ["ttl", "max_age"])
async def test_a_session_expires_at_the_hit(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, loaded: bool, option: str
) -> None:
    options: dict[str, Any] = {option: 5.25}
    await (delegate if loaded else cache).write_bytes("id", b"data", **options)
    await cache.read_bytes("id")
    clock.advance(5.249999)
    assert await cache.read_bytes("id") == b"data"
    clock.advance(0.000001)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")
    with pytest.raises(SessionNotFound):
        await cache.read("id", whole)
    assert await cache.load("id") is None
    assert await cache.info("id") is None


async def test_a_touch_extends_the_entry(cache: CacheStorage, delegate: Recorder, clock: ManualClock) -> None:
    await cache.write_bytes("id", b"data", ttl=5)
    for ttl in (5, 5, 20):
        clock.advance(4)
        info = await cache.touch("id", ttl=ttl)
        assert info is not None
        assert info == await cache.info("id") == await delegate.info("id")
    clock.advance(19.9)
    assert await cache.read_bytes("id") == b"data"
    assert delegate.calls["read"] == 0
    clock.advance(0.1)
    assert await cache.load("id") is None


@pytest.mark.parametrize("elsewhere", ["written", "ended"])
async def test_a_touch_that_finds_another_version_drops_the_entry(
    cache: CacheStorage, delegate: Recorder, elsewhere: str
) -> None:
    await cache.write_bytes("id", b"old")
    await delegate.invalidate("id")
    if elsewhere == "written":
        await delegate.write_bytes("id", b"new")
    await cache.touch("id")
    snapshot = await cache.load("id")
    assert (snapshot and snapshot.data) == (b"new" if elsewhere == "written" else None)


@pytest.mark.parametrize(
    "options", [{"max_entry_bytes": 7}, {"max_bytes": 7}, {"max_bytes": 7, "max_entry_bytes": 99}]
)
async def test_larger_sessions_stream_past(clock: ManualClock, options: dict[str, Any]) -> None:
    delegate = Recorder(clock=clock)
    cache = CacheStorage(delegate, **options)
    for write in (delegate.write, cache.write):
        await write("fits", provider_of(b"1234", b"567"))
        await write("large", provider_of(b"1234", b"5678"))
        for _ in range(2):
            assert await cache.read_bytes("fits") == b"1234567"
            assert await cache.read("large", by_pieces) == [b"12345678"]
            assert await cache.read_bytes("large") == b"12345678"
            snapshot = await cache.load("large")
            assert snapshot is not None
            assert snapshot.data == b"12345678"
        assert (cache.statistics.entries, cache.statistics.bytes) == (1, 7)
    assert cache.statistics.evictions == 0


async def test_a_write_that_outgrows_the_cache_drops_the_entry(clock: ManualClock) -> None:
    cache = CacheStorage(Recorder(clock=clock), max_entry_bytes=7)
    await cache.write_bytes("id", b"small")
    await cache.write("id", provider_of(b"1234", b"5678", b"9"))
    assert cache.statistics.entries == 0
    assert await cache.read_bytes("id") == b"123456789"
