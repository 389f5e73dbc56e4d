"""The buses of databases: what another process changes is seen long before the bound of the cache."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import CacheStorage, SqlSessionStorage
from sqlsessions.sql.bus.sqlite import SQLiteBus
from sqlsessions.testing import ManualClock

from ..cache.support import key
from ..databases import ON_MYSQL
from .buses import HOUR, cached, proven, until, until_gone
from .support import query, sqlite

each_bus = pytest.mark.parametrize(
    "sql_url",
    ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", *ON_MYSQL],
    indirect=True,
)


@pytest.fixture(autouse=True)
def _settled(polling_often: None) -> None:
    """As it is a minute after the first process began to poll."""


async def _raw(url: str, _there: SqlSessionStorage) -> None:
    await query(url, "DELETE FROM sessions WHERE subject = 'ann'")


CHANGES: dict[str, Callable[[str, SqlSessionStorage], Awaitable[Any]]] = {
    "write": lambda _url, there: there.write_bytes("id", b"new"),
    "large write": lambda _url, there: there.write_bytes("id", bytes(200_000)),
    "write_key": lambda _url, there: _write_key(there),
    "invalidate": lambda _url, there: there.invalidate("id"),
    "invalidate_key": lambda _url, there: there.invalidate_key(key("id")),
    "revoke": lambda _url, there: there.revoke("ann"),
    "rotate": lambda _url, there: there.rotate("id", "new id"),
    "raw": _raw,
}


async def _write_key(there: SqlSessionStorage) -> None:
    info = await there.info("id")
    assert info is not None
    await there.write_key(key("id"), b"new", if_match=info.version)


@each_bus
@pytest.mark.parametrize("change", CHANGES)
async def test_what_others_change_is_seen(sql_url: str, change: str) -> None:
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old", subject="ann")
        for _ in range(2):
            assert await cache.read_bytes("id") == b"old"

        async def seen() -> bool:
            snapshot = await cache.load("id")
            return snapshot is None or snapshot.data != b"old"

        await CHANGES[change](sql_url, there)
        if sql_url.startswith("sqlite"):
            assert await seen()  # the very next read
        await until(seen)
        found, kept = await cache.load("id"), await there.load("id")
        assert (found and found.data) == (kept and kept.data)


@each_bus
async def test_what_was_purged_is_seen(sql_url: str, clock: ManualClock) -> None:
    async with cached(sql_url, clock=clock, ttl=60) as cache, SqlSessionStorage(sql_url) as there:
        await cache.write_bytes("id", b"old", ttl=HOUR)
        assert await there.purge() >= 1  # by its own clock, all of it has expired
        await until_gone(cache)


@each_bus
async def test_own_writes_are_served_from_the_cache(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        await cache.write_bytes("other", b"data")
        for number in range(10):
            await cache.write_bytes("id", b"%d" % number)

            async def told() -> bool:  # one that is new, as the first is, is not told on PostgreSQL
                bus = cache.statistics.bus
                return bus is not None and bus.notices >= number  # noqa: B023 (awaited at once)

            await until(told)
            before = cache.statistics
            assert await cache.read_bytes("id") == b"%d" % number
            assert await cache.read_bytes("other") == b"data"
            after = cache.statistics
            assert (after.hits - before.hits, after.checked - before.checked) == (2, 0)
            assert after.misses == before.misses


@each_bus
async def test_two_caches_over_one_storage_agree(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        one, two = (CacheStorage(storage, max_staleness=HOUR) for _ in range(2))
        await proven(one)
        await proven(two)
        await one.write_bytes("id", b"old")
        assert await two.read_bytes("id") == b"old"
        await one.write_bytes("id", b"new")

        async def seen() -> bool:
            return await two.read_bytes("id") == b"new"

        if sql_url.startswith("sqlite"):
            assert await seen()
        await until(seen)
        await storage.invalidate("id")

        async def gone() -> bool:
            return await one.load("id") is None and await two.load("id") is None

        await until(gone)


@each_bus
async def test_over_the_callers_engine(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    async with cached(engine) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old")
        assert await cache.read_bytes("id") == b"old"
        await there.invalidate("id")
        await until_gone(cache)
    await engine.dispose()


@sqlite
async def test_sqlite_sees_every_commit(sql_url: str) -> None:
    """Also those of other programs, with a checkpoint in between, and without WAL."""
    path = str(make_url(sql_url).database)
    async with cached(sql_url) as cache:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            for number in range(20):
                await cache.write_bytes("id", b"%d" % number, subject="ann")
                assert await cache.read_bytes("id") == b"%d" % number
                if number % 3 == 1:
                    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                other.execute("DELETE FROM sessions WHERE subject = 'ann'")
                assert await cache.load("id") is None


@sqlite
async def test_sqlite_asks_for_the_counter_once_for_a_batch(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached(sql_url) as cache:
        asked = 0
        read = SQLiteBus._read

        def asking(bus: SQLiteBus) -> int | None:
            nonlocal asked
            asked += 1
            return read(bus)

        monkeypatch.setattr(SQLiteBus, "_read", asking)
        await asyncio.gather(*(cache.write_bytes(f"id {number}", b"data") for number in range(100)))
        assert 0 < asked < 50
        before = cache.statistics.hits
        assert await cache.read_bytes("id 99") == b"data"
        assert cache.statistics.hits == before + 1


@sqlite
async def test_sqlite_without_wal(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    try:
        async with cached(engine) as cache, SqlSessionStorage(engine) as there:
            for number in range(5):
                await there.write_bytes("id", b"%d" % number)
                assert await cache.read_bytes("id") == b"%d" % number
            await there.invalidate("id")
            assert await cache.load("id") is None
    finally:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        await engine.dispose()
