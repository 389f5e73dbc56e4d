"""What other processes do is seen within `max_staleness`, and at once by a strict cache."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sqlsessions import CacheStorage, SessionNotFound, SqlSessionStorage
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, state

from .support import CHANGES, Plain, Recorder, key, turns

elsewhere = pytest.mark.parametrize("change", CHANGES)


@elsewhere
async def test_a_change_elsewhere_is_seen_within_the_bound(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, change: str
) -> None:
    await cache.write_bytes("id", b"old", subject="ann")
    other = CacheStorage(delegate)
    await CHANGES[change](other)
    clock.advance(1.999)
    assert await cache.read_bytes("id") == b"old"
    clock.advance(0.001)
    assert await state(cache, "id") == await state(delegate, "id")
    assert await state(cache, "new id") == await state(delegate, "new id")


@elsewhere
async def test_a_strict_cache_sees_a_change_elsewhere_at_once(
    clock: ManualClock, delegate: Recorder, change: str
) -> None:
    cache = CacheStorage(delegate, strict=True)
    await cache.write_bytes("id", b"old", subject="ann")
    await CHANGES[change](CacheStorage(delegate))
    assert await state(cache, "id") == await state(delegate, "id")


@pytest.mark.parametrize("lived", [timedelta(hours=17), timedelta(days=400)], ids=str)
async def test_a_session_in_steady_use_is_refused_once_it_was_ended_elsewhere(
    clock: ManualClock, delegate: Recorder, lived: timedelta
) -> None:
    cache = CacheStorage(delegate, max_staleness=timedelta(seconds=90))
    await cache.write_bytes("id", b"data", ttl=None, subject="ann")
    for _ in range(10):
        clock.advance(60)
        await cache.read_bytes("id")
    await delegate.revoke("ann")
    served = 0
    for _ in range(int(lived.total_seconds()) // 60 if lived < timedelta(days=1) else 1000):
        clock.advance(60)
        served += await cache.load("id") is not None
    assert served <= 1


async def test_a_check_moves_no_data_and_holds_for_as_long_as_a_load(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await delegate.write_bytes("id", b"data")
    for _ in range(3):
        assert await cache.read_bytes("id") == b"data"
        clock.advance(1.9)
        assert await cache.read_bytes("id") == b"data"
        clock.advance(0.1)
    assert (delegate.calls["read"], delegate.calls["info"]) == (1, 2)
    statistics = cache.statistics
    assert (statistics.misses, statistics.hits, statistics.checked) == (1, 3, 2)


async def test_a_strict_cache_moves_no_data_either(clock: ManualClock, delegate: Recorder) -> None:
    cache = CacheStorage(delegate, strict=True)
    await delegate.write_bytes("id", b"data")
    for _ in range(4):
        assert await cache.read_bytes("id") == b"data"
    assert (delegate.calls["read"], delegate.calls["info"]) == (1, 3)
    assert (cache.statistics.hits, cache.statistics.checked) == (0, 3)


async def test_concurrent_readers_share_a_check(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await cache.write_bytes("id", b"data")
    clock.advance(2)
    pause = delegate.stop("before info")
    first = await pause.start(cache.read_bytes("id"))
    others = [asyncio.create_task(cache.read_bytes("id")) for _ in range(5)]
    await turns()
    assert await pause.finish(first) == b"data"
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*others) == [b"data"] * 5
    assert delegate.calls["info"] == 1


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("point", ["info", "read"])
async def test_a_reader_shares_nothing_that_is_too_old_for_it(
    clock: ManualClock, delegate: Recorder, strict: bool, point: str
) -> None:
    """A check or load that hangs has seen the session, but before the reader came."""
    cache = CacheStorage(delegate, strict=strict)
    await (cache if point == "info" else delegate).write_bytes("id", b"data")
    clock.advance(2)
    pause = delegate.stop(f"after {point}")
    first = await pause.start(cache.read_bytes("id"))
    await delegate.invalidate("id")
    clock.advance(0 if strict else 2)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(SessionNotFound):
            await cache.read_bytes("id")
    assert await pause.finish(first) == b"data"
    clock.advance(2)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_staleness_counts_from_the_beginning_of_a_load(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await delegate.write_bytes("id", b"data")
    pause = delegate.stop("after read")
    reader = await pause.start(cache.read_bytes("id"))
    await delegate.invalidate("id")
    clock.advance(2)
    await pause.finish(reader)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


@elsewhere
async def test_a_check_that_a_change_overtakes_is_not_kept(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, change: str
) -> None:
    await cache.write_bytes("id", b"old", subject="ann")
    clock.advance(2)
    pause = delegate.stop("after info")
    reader = await pause.start(cache.read_bytes("id"))
    await CHANGES[change](cache)
    assert await pause.finish(reader) == b"old"
    assert await state(cache, "id") == await state(delegate, "id")


async def test_a_check_brings_the_expiry(cache: CacheStorage, delegate: Recorder, clock: ManualClock) -> None:
    await cache.write_bytes("id", b"data", ttl=10)
    clock.advance(5)
    await delegate.touch("id")
    assert await state(cache, "id") == await state(delegate, "id")
    clock.advance(9)
    assert await cache.read_bytes("id") == b"data"


async def test_a_plain_storage_is_read_again(clock: ManualClock) -> None:
    plain = Plain()
    cache = CacheStorage(plain, clock=clock)
    plain.kept["id"] = b"old"
    assert await cache.read_bytes("id") == b"old"
    plain.kept["id"] = b"new"
    clock.advance(1.9)
    assert await cache.read_bytes("id") == b"old"
    clock.advance(0.1)
    assert await cache.read_bytes("id") == b"new"
    del plain.kept["id"]
    clock.advance(2)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")
    assert plain.reads == 3


async def test_a_clock_that_goes_back_makes_no_entry_younger(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await cache.write_bytes("id", b"data")
    await delegate.invalidate("id")
    clock.advance(-3600)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_a_clock_that_stands_still_makes_no_entry_younger(
    cache: CacheStorage, delegate: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elapsed = 1000.0
    monkeypatch.setattr("sqlsessions.cache.entries.time.monotonic", lambda: elapsed)
    await cache.write_bytes("id", b"data")
    await delegate.invalidate("id")
    elapsed += 1.9
    assert await cache.read_bytes("id") == b"data"
    elapsed += 0.1
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


@pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy", "MySQL+asyncmy"], indirect=True
)
@pytest.mark.parametrize("change", ["write", "invalidate", "revoke", "rotate", "invalidate_key"])
@pytest.mark.parametrize("strict", [True, False])
async def test_two_processes_on_one_database(
    sql_url: str, clock: ManualClock, change: str, strict: bool
) -> None:
    async with (
        CacheStorage(SqlSessionStorage(sql_url, clock=clock), strict=strict) as here,
        CacheStorage(SqlSessionStorage(sql_url, clock=clock)) as there,
    ):
        await here.write_bytes("id", b"old", subject="ann")
        assert await there.read_bytes("id") == await here.read_bytes("id") == b"old"
        await CHANGES[change](there)
        clock.advance(0 if strict else 2)
        snapshot = await here.load("id")
        assert (snapshot and snapshot.data) == (b"new" if change == "write" else None)
        assert await here.invalidate_key(key("id")) == (change == "write")
