"""A load or a write that another change overtakes is not kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from sqlsessions import CacheStorage, SessionNotFound
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, Pause, provider_of, state

from .support import CHANGES, Recorder, turns

each_change = pytest.mark.parametrize("change", CHANGES)


async def agree(cache: CacheStorage, delegate: Recorder, *ids: str) -> None:
    """Whether the cache serves what the storage holds, asked twice."""
    for id in ids or ("id", "new id"):
        for _ in range(2):
            assert await state(cache, id) == await state(delegate, id)
            assert await cache.info(id) == await delegate.info(id)


async def finish_soon(call: Awaitable[object]) -> object:
    async with asyncio.timeout(PATIENCE):
        return await call


@each_change
@pytest.mark.parametrize("point", ["before read", "after read"])
async def test_a_load_that_a_change_overtakes_is_not_kept(
    cache: CacheStorage, delegate: Recorder, change: str, point: str
) -> None:
    await delegate.write_bytes("id", b"old", subject="ann")
    pause = delegate.stop(point)
    reader = await pause.start(cache.load("id"))
    await CHANGES[change](cache)
    await turns()
    # Who comes after the change does not wait for the load of before.
    assert await finish_soon(state(cache, "id")) == await state(delegate, "id")
    found = await pause.finish(reader)
    if point == "after read":
        assert found is not None
        assert found.data == b"old"
    await agree(cache, delegate)


@each_change
@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_load_during_a_change_is_not_kept(
    cache: CacheStorage, delegate: Recorder, change: str, point: str
) -> None:
    await cache.write_bytes("id", b"old", subject="ann")
    pause = delegate.stop(f"{point} {change}")
    writer = await pause.start(CHANGES[change](cache))
    for _ in range(2):
        assert await state(cache, "id") == await state(delegate, "id")
    await pause.finish(writer)
    await agree(cache, delegate)


@each_change
async def test_a_load_begun_during_a_change_and_ended_after_it_is_not_kept(
    cache: CacheStorage, delegate: Recorder, change: str
) -> None:
    await cache.write_bytes("id", b"old", subject="ann")
    changing, reading = delegate.stop(f"before {change}"), delegate.stop("after read")
    writer = await changing.start(CHANGES[change](cache))
    reader = await reading.start(cache.read_bytes("id"))
    await changing.finish(writer)
    assert await finish_soon(state(cache, "id")) == await state(delegate, "id")
    assert await reading.finish(reader) == b"old"
    await agree(cache, delegate)


async def test_a_load_of_an_id_that_is_rotated_to_is_not_kept(
    cache: CacheStorage, delegate: Recorder
) -> None:
    await delegate.write_bytes("id", b"old")
    await delegate.write_bytes("other", b"new")
    pause = delegate.stop("after read")
    reader = await pause.start(cache.read_bytes("id"))
    await delegate.invalidate("id")
    await cache.rotate("other", "id")
    await pause.finish(reader)
    assert await cache.read_bytes("id") == b"new"
    await agree(cache, delegate, "id", "other")


async def test_a_load_that_a_touch_overtakes_is_not_kept(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await delegate.write_bytes("id", b"data", ttl=10)
    pause = delegate.stop("after read")
    reader = await pause.start(cache.read_bytes("id"))
    clock.advance(9)
    touched = await cache.touch("id")
    assert touched is not None
    assert touched.expires_at == clock.now + timedelta(seconds=10)
    assert await pause.finish(reader) == b"data"
    await agree(cache, delegate, "id")


async def test_a_late_touch_does_not_take_back_the_expiry(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock
) -> None:
    await cache.write_bytes("id", b"data", ttl=10)
    clock.advance(5)
    pause = delegate.stop("after touch")
    late = await pause.start(cache.touch("id"))
    clock.advance(4)
    await cache.touch("id")
    await pause.finish(late)
    await agree(cache, delegate, "id")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("point", ["before write", "after write"])
async def test_overlapping_writes_leave_the_right_entry_or_none(
    cache: CacheStorage, delegate: Recorder, point: str, first: int
) -> None:
    await cache.write_bytes("id", b"old")
    pauses = [delegate.stop(point)]
    writers = [await pauses[0].start(cache.write_bytes("id", b"one"))]
    pauses.append(delegate.stop(point))
    writers.append(await pauses[1].start(cache.write_bytes("id", b"another")))
    await pauses[first].finish(writers[first])
    await agree(cache, delegate, "id")
    await pauses[1 - first].finish(writers[1 - first])
    await agree(cache, delegate, "id")


@pytest.mark.parametrize("change", ["write", "invalidate"])
async def test_a_write_that_is_overtaken_is_not_kept(
    cache: CacheStorage, delegate: Recorder, change: str
) -> None:
    pause = delegate.stop("after write")
    writer = await pause.start(cache.write_bytes("id", b"overtaken"))
    await CHANGES[change](cache)
    await pause.finish(writer)
    await agree(cache, delegate)


async def test_a_write_whose_provider_ends_during_a_revocation_is_not_kept(
    cache: CacheStorage, delegate: Recorder
) -> None:
    revoking, writing = delegate.stop("before revoke"), delegate.stop("after write")
    revoker = await revoking.start(cache.revoke("ann"))
    writer = await writing.start(cache.write_bytes("id", b"data", subject="ann"))
    await revoking.finish(revoker)
    await writing.finish(writer)
    assert await cache.load("id") is None


@each_change
@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_change_cancelled_while_it_takes_effect_leaves_no_stale_entry(
    cache: CacheStorage, delegate: Recorder, change: str, point: str
) -> None:
    """It takes effect before the call is over, or not at all."""
    await cache.write_bytes("id", b"old", subject="ann")
    pause = delegate.stop(f"{point} {change}")
    call = await pause.start(CHANGES[change](cache))
    reader = asyncio.create_task(state(cache, "id"))
    await turns()
    assert await finish_soon(reader) == await state(delegate, "id")
    call.cancel()
    await turns()
    assert not call.done()
    with pytest.raises(asyncio.CancelledError):
        await pause.finish(call)
    at_the_end = await state(delegate, "id")
    assert at_the_end is None or at_the_end[0] == b"new"
    await agree(cache, delegate)
    await turns()
    assert await state(delegate, "id") == at_the_end


async def _cancelled(cache: CacheStorage) -> None:
    pause = Pause()
    writer = await pause.start(cache.write("id", pause.providing(b"half")))
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pause.finish(writer)


async def _raising(cache: CacheStorage) -> None:
    with pytest.raises(ZeroDivisionError):
        await cache.write("id", provider_of(b"half", then=ZeroDivisionError()))


async def _cancelling_itself(cache: CacheStorage) -> None:
    with pytest.raises(asyncio.CancelledError):
        await cache.write("id", provider_of(b"half", then=asyncio.CancelledError()))


@pytest.mark.parametrize("broken_off", [_cancelled, _raising, _cancelling_itself])
async def test_a_provider_that_breaks_off_leaves_the_entry(
    cache: CacheStorage, delegate: Recorder, broken_off: Callable[[CacheStorage], Awaitable[None]]
) -> None:
    await cache.write_bytes("id", b"old")
    await broken_off(cache)
    assert await cache.read_bytes("id") == b"old"
    assert delegate.calls["read"] == 0
    assert delegate.calls["commit"] == 1
    await agree(cache, delegate, "id")


async def test_an_entry_is_served_while_a_provider_writes(cache: CacheStorage, delegate: Recorder) -> None:
    await cache.write_bytes("id", b"old")
    pause = Pause()
    writer = await pause.start(cache.write("id", pause.providing(b"ne", b"w")))
    assert await cache.read_bytes("id") == b"old"
    assert delegate.calls["read"] == 0
    await pause.finish(writer)
    assert await cache.read_bytes("id") == b"new"


async def test_a_change_that_fails_leaves_no_stale_entry(cache: CacheStorage, delegate: Recorder) -> None:
    """Who knows what a storage did before it failed."""
    await cache.write_bytes("id", b"old")
    await delegate.invalidate("id")
    delegate.errors["write"] = ConnectionError("the answer was lost")
    with pytest.raises(ConnectionError):
        await cache.write_bytes("id", b"new")
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")
