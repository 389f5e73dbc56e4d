"""Caches that tell each other through Redis what goes through them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from sqlsessions import CacheStorage, SessionStorageMemory
from sqlsessions.cache.bus.redis import RedisBus
from sqlsessions.testing import ManualClock

from ..databases import REQUIRED
from .support import CHANGES, Plain, Recorder

URL = os.environ.get("SQLSESSIONS_TEST_REDIS", "redis://127.0.0.1:6379")
CLIENT = f"sqlsessions-test-{os.getpid()}"
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _server() -> None:
    try:
        with redis.Redis.from_url(URL, socket_connect_timeout=2) as client:
            client.ping()
    except redis.RedisError as error:
        (pytest.fail if REQUIRED else pytest.skip)(f"no server at {URL}: {type(error).__name__}")


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> str:
    return f"sqlsessions test {os.getpid()} {request.node.name}"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.005)


async def proven(cache: CacheStorage) -> None:
    async def is_proven() -> bool:
        await cache.read_bytes("probe")
        return bool(cache.statistics.bus and cache.statistics.bus.proven)

    await cache.write_bytes("probe", b"")
    await until(is_proven)


def connected() -> int:
    """How many connections the buses of this process have."""
    with redis.Redis.from_url(URL) as client:
        clients: Any = client.client_list()
        return sum(each["name"] == CLIENT for each in clients)


@asynccontextmanager
async def cached(
    delegate: SessionStorageMemory | Plain, channel: str, options: str = ""
) -> AsyncIterator[CacheStorage]:
    bus = RedisBus(f"{URL}?client_name={CLIENT}{options}", channel=channel)
    async with CacheStorage(delegate, max_staleness=3600, bus=bus) as cache:
        await proven(cache)
        yield cache


@pytest.mark.parametrize("change", CHANGES)
async def test_what_goes_through_another_cache_is_seen(delegate: Recorder, channel: str, change: str) -> None:
    async with cached(delegate, channel) as here, cached(delegate, channel) as there:
        await there.write_bytes("id", b"old", subject="ann")
        assert await here.read_bytes("id") == b"old"
        await CHANGES[change](there)

        async def seen() -> bool:
            snapshot = await here.load("id")
            return snapshot is None or snapshot.data == b"new"

        await until(seen)
        found, kept = await here.load("id"), await delegate.load("id")
        assert (found and found.data) == (kept and kept.data)


async def test_over_a_plain_storage(channel: str) -> None:
    plain = Plain()
    async with cached(plain, channel) as here, cached(plain, channel) as there:
        await there.write_bytes("id", b"old")
        assert await here.read_bytes("id") == b"old"
        await there.write_bytes("id", b"new")

        async def seen() -> bool:
            return await here.read_bytes("id") == b"new"

        await until(seen)


async def test_own_writes_are_served_from_the_cache(delegate: Recorder, channel: str) -> None:
    async with cached(delegate, channel) as cache:
        await cache.write_bytes("id", b"data")
        await asyncio.sleep(0.05)
        reads = delegate.calls["read"]
        assert await cache.read_bytes("id") == b"data"
        assert delegate.calls["read"] == reads


@pytest.mark.parametrize("options", ["", "&retry_on_timeout=yes"])
async def test_a_connection_that_is_lost_is_a_gap(
    delegate: Recorder, channel: str, clock: ManualClock, options: str
) -> None:
    async with cached(delegate, channel, options) as cache:
        await cache.write_bytes("id", b"data")
        with redis.Redis.from_url(URL) as client:
            client.client_kill_filter(_type="pubsub")

        async def noticed() -> bool:
            return bool(cache.statistics.bus and cache.statistics.bus.gaps)

        await until(noticed)
        assert cache.statistics.entries == 0
        await proven(cache)
        assert await cache.read_bytes("id") == b"data"


async def test_many_changes_at_once_share_a_connection(delegate: Recorder, channel: str) -> None:
    async with cached(delegate, channel) as here, cached(delegate, channel) as there:
        ids = [f"id {number}" for number in range(500)]
        for id in ids:
            await delegate.write_bytes(id, b"old")
        assert await here.read_bytes(ids[-1]) == b"old"
        before = here.statistics.bus
        connections = connected()
        await asyncio.gather(*(there.write_bytes(id, b"new") for id in ids))
        assert connected() <= connections + 1

        async def seen() -> bool:
            bus = here.statistics.bus
            assert bus is not None
            assert before is not None
            # On a busy machine the connection may be given up: then the cache starts empty.
            return bus.notices - before.notices == len(ids) or bus.gaps > before.gaps

        await until(seen)
        assert await here.read_bytes(ids[-1]) == b"new"


class Slow:
    """A client that sends when it is let, and connects to do so."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.connected = True

    async def publish(self, channel: str, message: bytes) -> None:
        self.begun.set()
        await self.go.wait()
        self.connected = True

    async def aclose(self) -> None:
        self.connected = False


async def test_a_client_that_is_closed_while_it_sends_leaves_no_connection() -> None:
    bus, client = RedisBus(URL), Slow()
    bus._client, bus._task = client, asyncio.current_task()
    sending = asyncio.create_task(bus._send([b"d" * 32]))
    await client.begun.wait()
    bus._client = None
    await client.aclose()
    client.go.set()
    await sending
    assert not client.connected


async def test_a_burst_empties_the_caches_of_others(
    delegate: Recorder, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlsessions.cache.bus.redis.MOST", 10)
    async with cached(delegate, channel) as here, cached(delegate, channel) as there:
        ids = [f"id {number}" for number in range(100)]
        for id in ids:
            await delegate.write_bytes(id, b"old", subject="ann")
        assert await here.read_bytes("id 99") == b"old"
        await asyncio.gather(*(there.invalidate(id) for id in ids))

        async def emptied() -> bool:
            return bool(here.statistics.bus and here.statistics.bus.gaps)

        await until(emptied)
        assert await here.load("id 99") is None
        assert there.statistics.bus is not None
        assert not there.statistics.bus.gaps


async def test_sessions_that_a_login_ended_are_told_of(channel: str) -> None:
    delegate = SessionStorageMemory(max_sessions_per_subject=2)
    async with cached(delegate, channel) as here, cached(delegate, channel) as there:
        for id in ("first", "second"):
            await there.write_bytes(id, b"data", subject="ann")
            assert await here.read_bytes(id) == b"data"
        await there.write_bytes("third", b"data", subject="ann")

        async def ended() -> bool:
            return await here.load("first") is None

        await until(ended)
        assert await here.read_bytes("second") == b"data"


async def test_without_a_server_every_read_is_checked_and_writes_go_on(delegate: Recorder) -> None:
    async with CacheStorage(delegate, bus=RedisBus("redis://127.0.0.1:1")) as cache:
        await cache.write_bytes("id", b"data")
        assert await cache.read_bytes("id") == b"data"
        assert cache.statistics.bypassed == 1
        await delegate.invalidate("id")
        assert await cache.load("id") is None
