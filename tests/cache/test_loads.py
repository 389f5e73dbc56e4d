"""Those who miss the same session at the same time share one load."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sqlsessions import CacheStorage, SessionNotFound, StorageUnavailable
from sqlsessions.testing._base import PATIENCE, whole

from ..sql.stepping import troubles
from .support import Recorder, turns


def readers(cache: CacheStorage, count: int) -> list[asyncio.Task[Any]]:
    """Calls that read the session, in either way."""
    calls = (cache.read_bytes("id") if number % 2 else cache.read("id", whole) for number in range(count))
    return [asyncio.create_task(call) for call in calls]


async def results(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("point", ["before read", "after read"])
async def test_concurrent_misses_share_a_load(cache: CacheStorage, delegate: Recorder, point: str) -> None:
    await delegate.write_bytes("id", b"data")
    pause = delegate.stop(point)
    first = await pause.start(cache.read_bytes("id"))
    tasks = readers(cache, 6)
    await turns()
    assert not any(task.done() for task in tasks)
    assert await pause.finish(first) == b"data"
    assert await results(tasks) == [b"data"] * 6
    assert delegate.calls["read"] == 1
    assert cache.statistics.misses == 7


async def test_a_load_holds_up_no_other_session(cache: CacheStorage, delegate: Recorder) -> None:
    await delegate.write_bytes("id", b"data")
    await delegate.write_bytes("other", b"other data")
    pause = delegate.stop("before read")
    first = await pause.start(cache.read_bytes("id"))
    assert await results([asyncio.create_task(cache.read_bytes("other"))]) == [b"other data"]
    assert await pause.finish(first) == b"data"


async def test_a_failed_load_fails_for_all_and_is_not_kept(cache: CacheStorage, delegate: Recorder) -> None:
    await delegate.write_bytes("id", b"data")
    delegate.errors["read"] = StorageUnavailable("the network is down")
    pause = delegate.stop("before read")
    first = await pause.start(cache.load("id"))
    tasks = readers(cache, 4)
    await turns()
    with pytest.raises(StorageUnavailable, match="network"):
        await pause.finish(first)
    assert [type(error) for error in await results(tasks)] == [StorageUnavailable] * 4
    assert delegate.calls["read"] == 1
    assert cache.statistics.entries == 0
    delegate.errors.clear()
    assert await cache.read_bytes("id") == b"data"
    assert delegate.calls["read"] == 2


async def test_a_session_that_is_not_there_is_missed_by_all(cache: CacheStorage, delegate: Recorder) -> None:
    pause = delegate.stop("before read")
    first = await pause.start(cache.load("id"))
    tasks = readers(cache, 4)
    await turns()
    assert await pause.finish(first) is None
    assert [type(error) for error in await results(tasks)] == [SessionNotFound] * 4
    assert delegate.calls["read"] == 1


async def test_errors_of_the_storage_beneath_are_no_missing_session(
    cache: CacheStorage, delegate: Recorder
) -> None:
    delegate.errors["read"] = KeyError("a bug of the storage")
    with pytest.raises(KeyError):
        await cache.load("id")


@pytest.mark.parametrize("leaving", [0, 1, 3], ids=["first", "second", "last"])
async def test_who_gives_up_disturbs_no_other(cache: CacheStorage, delegate: Recorder, leaving: int) -> None:
    await delegate.write_bytes("id", b"data")
    pause = delegate.stop("before read")
    tasks = [await pause.start(cache.read_bytes("id")), *readers(cache, 3)]
    await turns()
    tasks[leaving].cancel()
    await turns()
    assert [task.done() for task in tasks] == [task is tasks[leaving] for task in tasks]
    pause._resume.set()
    found = await results(tasks)
    assert isinstance(found.pop(leaving), asyncio.CancelledError)
    assert found == [b"data"] * 3
    assert delegate.calls["read"] == 1


@pytest.mark.parametrize("error", [None, StorageUnavailable("too late")], ids=["loaded", "failed"])
async def test_when_all_give_up_nothing_is_reported(
    cache: CacheStorage, delegate: Recorder, error: Exception | None
) -> None:
    await delegate.write_bytes("id", b"data")
    if error:
        delegate.errors["read"] = error
    pause = delegate.stop("before read")
    async with troubles() as seen:
        tasks = [await pause.start(cache.read_bytes("id")), *readers(cache, 3)]
        await turns()
        for task in tasks:
            task.cancel()
        assert {type(error) for error in await results(tasks)} == {asyncio.CancelledError}
        pause._resume.set()
        await turns()
        del tasks, task
        await turns()
    assert seen == []
    delegate.errors.clear()
    assert await cache.read_bytes("id") == b"data"


async def test_a_reader_joins_a_load_whose_starter_gave_up(cache: CacheStorage, delegate: Recorder) -> None:
    await delegate.write_bytes("id", b"data")
    pause = delegate.stop("before read")
    first = await pause.start(cache.read_bytes("id"))
    first.cancel()
    await turns()
    late = readers(cache, 1)
    await turns()
    pause._resume.set()
    assert await results(late) == [b"data"]
    assert delegate.calls["read"] == 1


async def test_closing_waits_for_a_load(delegate: Recorder) -> None:
    await delegate.write_bytes("id", b"data")
    cache = CacheStorage(delegate)
    pause = delegate.stop("before read")
    reader = await pause.start(cache.read_bytes("id"))
    closing = asyncio.create_task(cache.aclose())
    await turns()
    assert not closing.done()
    assert delegate.closed == 0
    assert await pause.finish(reader) == b"data"
    async with asyncio.timeout(PATIENCE):
        await closing
    assert delegate.closed == 1
    assert cache.statistics.entries == 0
