"""A write that repeats what the cache holds becomes a touch, if that leaves the session as asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sqlsessions import CacheStorage, Provider, SessionConflict
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of, state

from .support import Recorder


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "written"])
@pytest.mark.parametrize(
    "provider", [provider_of(b"data"), provider_of(b"d", b"", b"ata")], ids=["whole", "in pieces"]
)
async def test_a_repeated_write_is_a_touch(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, loaded: bool, provider: Provider
) -> None:
    first = await (delegate if loaded else cache).write_bytes("id", b"data", ttl=100)
    await cache.read_bytes("id")
    clock.advance(50)
    info = await cache.write("id", provider)
    assert info.version == first.version
    assert info.updated_at == first.updated_at
    assert info.expires_at == clock.now + timedelta(seconds=100)
    assert delegate.calls["commit"] == 1
    assert await delegate.info("id") == info
    reads = delegate.calls["read"]
    assert await state(cache, "id") == (b"data", info)
    assert delegate.calls["read"] == reads


@pytest.mark.parametrize("option", ["subject", "if_match"])
async def test_options_that_change_nothing_leave_it_a_touch(
    cache: CacheStorage, delegate: Recorder, option: str
) -> None:
    for subject in ("ann", None):
        info = await cache.write_bytes(f"id of {subject}", b"data", subject=subject)
        options: dict[str, Any] = {"subject": subject} if option == "subject" else {"if_match": info.version}
        again = await cache.write_bytes(f"id of {subject}", b"data", **options)
        assert again.version == info.version
    assert delegate.calls["commit"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"ttl": 60},
        {"ttl": 5},
        {"ttl": None},
        {"max_age": 60},
        {"max_age": None},
        {"subject": "bob"},
        {"subject": None},
        {"subject": "bob", "ttl": 60},
    ],
    ids=str,
)
async def test_options_that_change_something_make_it_a_write(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, options: dict[str, Any]
) -> None:
    first = await cache.write_bytes("id", b"data", ttl=30, max_age=120, subject="ann")
    clock.advance(10)
    info = await cache.write_bytes("id", b"data", **options)
    assert info.version > first.version
    assert info.subject == options.get("subject", "ann")
    ttl, max_age = options.get("ttl", 30), options.get("max_age", 120)
    ends = [
        ttl and clock.now + timedelta(seconds=ttl),
        max_age and first.created_at + timedelta(seconds=max_age),
    ]
    assert info.expires_at == min(end for end in ends if end)
    assert await state(cache, "id") == await state(delegate, "id") == (b"data", info)


async def test_other_data_of_the_same_size_is_a_write(cache: CacheStorage, delegate: Recorder) -> None:
    await cache.write_bytes("id", b"data")
    await cache.write_bytes("id", b"dato")
    assert await cache.read_bytes("id") == await delegate.read_bytes("id") == b"dato"


async def test_a_beginning_of_the_data_is_a_write(cache: CacheStorage, delegate: Recorder) -> None:
    await cache.write_bytes("id", b"data")
    await cache.write_bytes("id", b"da")
    assert await cache.read_bytes("id") == await delegate.read_bytes("id") == b"da"


async def test_the_data_of_another_session_is_a_write(cache: CacheStorage, delegate: Recorder) -> None:
    await cache.write_bytes("id", b"data")
    await cache.write_bytes("other", b"data")
    assert await delegate.read_bytes("other") == b"data"


@pytest.mark.parametrize("match", [False, True], ids=["unconditional", "if_match"])
async def test_it_is_a_write_where_another_process_has_written(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, match: bool
) -> None:
    cached = await cache.write_bytes("id", b"cached", ttl=100)
    await delegate.write_bytes("id", b"another's")
    clock.advance(50)
    if match:
        before = await state(delegate, "id")
        with pytest.raises(SessionConflict):
            await cache.write_bytes("id", b"cached", if_match=cached.version)
        assert await state(delegate, "id") == before
        assert before == await state(cache, "id")
        return
    info = await cache.write_bytes("id", b"cached")
    assert info.version > cached.version
    assert await state(cache, "id") == await state(delegate, "id") == (b"cached", info)


@pytest.mark.parametrize("match", [False, True], ids=["unconditional", "if_match"])
async def test_it_is_a_write_where_another_process_has_ended_the_session(
    cache: CacheStorage, delegate: Recorder, match: bool
) -> None:
    cached = await cache.write_bytes("id", b"cached", subject="ann")
    await delegate.invalidate("id")
    if match:
        with pytest.raises(SessionConflict):
            await cache.write_bytes("id", b"cached", if_match=cached.version)
        assert await state(delegate, "id") is None
        return
    info = await cache.write_bytes("id", b"cached")
    assert info.version != cached.version
    assert info.subject is None
    assert await state(cache, "id") == await state(delegate, "id") == (b"cached", info)


@pytest.mark.parametrize("stale", ["0", "older"])
async def test_a_stale_if_match_is_a_conflict(cache: CacheStorage, delegate: Recorder, stale: str) -> None:
    older = await cache.write_bytes("id", b"older")
    await cache.write_bytes("id", b"data")
    before = await state(delegate, "id")
    with pytest.raises(SessionConflict):
        await cache.write_bytes("id", b"data", if_match=0 if stale == "0" else older.version)
    assert await state(delegate, "id") == before
    assert await state(cache, "id") == before


@pytest.mark.parametrize("gone", ["idle", "expired", "invalidated"])
async def test_it_is_a_write_once_the_entry_is_gone(
    cache: CacheStorage, delegate: Recorder, clock: ManualClock, gone: str
) -> None:
    first = await cache.write_bytes("id", b"data", ttl=50 if gone == "expired" else 1000)
    if gone == "invalidated":
        await cache.invalidate("id")
    clock.advance(60)
    info = await cache.write_bytes("id", b"data")
    assert info.version != first.version
    assert (info.created_at == first.created_at) == (gone == "idle")
    assert await state(delegate, "id") == (b"data", info)


async def test_a_repeat_too_large_for_the_cache_is_a_write(clock: ManualClock) -> None:
    delegate = Recorder(clock=clock)
    cache = CacheStorage(delegate, max_entry_bytes=5)
    for _ in range(2):
        await cache.write_bytes("id", b"123456")
    assert delegate.calls["commit"] == 2
