"""While a provider or a consumer runs its own code, nothing of the database is held."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import ByteReadChannel, ByteWriteChannel, CacheStorage, SqlSessionStorage
from sqlsessions.testing._base import PATIENCE, Pause, provider_of

from .support import INLINE, TINY, each_database, in_use, kind, query, quiet

LARGE = bytes(range(250)) * 12
SERVER_HOLDS = {
    "postgresql": """
        SELECT pid::text, state FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client dialect' AND (state <> 'idle' OR backend_xid IS NOT NULL)
        UNION ALL
        SELECT pid::text, mode FROM pg_locks
        WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND pid IN (
                SELECT pid FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND backend_type = 'client dialect'
            )
        """,
    "mysql": """
        SELECT trx_id, trx_state FROM information_schema.innodb_trx
        WHERE trx_mysql_thread_id IN (
            SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()
        )
        UNION ALL
        SELECT id, command FROM information_schema.processlist
        WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command <> 'Sleep'
        """,
}


async def assert_nothing_held(storage: SqlSessionStorage, url: str) -> None:
    assert in_use(storage) == 0
    if kind(url) == "sqlite":
        path = str(make_url(url).database)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            # Fails to truncate the log, and says so, while anybody reads or writes.
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy
    else:
        assert await query(url, SERVER_HOLDS[kind(url)]) == []


@pytest.fixture(params=["ours", "theirs"])
def pooled(request: pytest.FixtureRequest, sql_url: str) -> SqlSessionStorage:
    target = sql_url if request.param == "ours" else create_async_engine(sql_url)
    return SqlSessionStorage(target, **TINY)


@each_database
@pytest.mark.parametrize("data", [INLINE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("old", [None, b"old", LARGE[1:]], ids=["new", "over small", "over large"])
async def test_a_paused_provider_holds_nothing(
    pooled: SqlSessionStorage, sql_url: str, data: bytes, old: bytes | None
) -> None:
    async with pooled as storage:
        if old is not None:
            await storage.write_bytes("id", old)
        at_start, at_end = Pause(), Pause()

        async def provider(channel: ByteWriteChannel) -> None:
            await at_start()
            await channel.write(data)
            await at_end()

        task = await at_start.start(storage.write("id", provider))
        await assert_nothing_held(storage, sql_url)
        at_start._resume.set()
        async with asyncio.timeout(PATIENCE):
            await at_end._reached.wait()
        await assert_nothing_held(storage, sql_url)
        await at_end.finish(task)
        assert await storage.read_bytes("id") == data
        engine = storage.engine
    await engine.dispose()


@each_database
@pytest.mark.parametrize("data", [INLINE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("end", ["whole", "early"])
async def test_a_paused_consumer_holds_nothing(
    pooled: SqlSessionStorage, sql_url: str, data: bytes, end: str
) -> None:
    async with pooled as storage:
        await storage.write_bytes("id", data)
        at_start, in_the_middle = Pause(), Pause()

        async def consumer(channel: ByteReadChannel) -> bytes:
            await at_start()
            first = await channel.read(1)
            await in_the_middle()
            return first + await channel.read(-1 if end == "whole" else 1)

        task = await at_start.start(storage.read("id", consumer))
        await assert_nothing_held(storage, sql_url)
        at_start._resume.set()
        async with asyncio.timeout(PATIENCE):
            await in_the_middle._reached.wait()
        await assert_nothing_held(storage, sql_url)
        read = await in_the_middle.finish(task)
        assert read == (data if end == "whole" else data[:2])
        await assert_nothing_held(storage, sql_url)
        engine = storage.engine
    await engine.dispose()


@each_database
async def test_a_paused_listing_holds_nothing(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        await storage.write_bytes("id", b"data", subject="ann")
        for subject in (None, "ann"):
            async for _ in storage.sessions(subject):
                await assert_nothing_held(storage, sql_url)


@each_database
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
async def test_fifty_paused_streams_starve_nobody(sql_url: str, cached: bool) -> None:
    sql = SqlSessionStorage(sql_url, pool_size=2, pool_timeout=5, **TINY)
    async with CacheStorage(sql, max_entry_bytes=200) if cached else sql as storage:
        await storage.write_bytes("read small", INLINE)
        await storage.write_bytes("read large", LARGE)
        pauses = [Pause() for _ in range(50)]
        streams: list[asyncio.Task[Any]] = []
        for number, pause in enumerate(pauses):
            data = (INLINE, LARGE)[number % 2]
            call: Coroutine[Any, Any, object]
            if number < 25:
                call = storage.write(f"written {number}", pause.providing(data, b"end"))
            else:
                call = storage.read(("read small", "read large")[number % 2], pause.reading)
            streams.append(await pause.start(call))
        await assert_nothing_held(sql, sql_url)
        async with asyncio.timeout(PATIENCE):
            for number in range(20):
                data = bytes([number]) * (50 + number * 10)
                await storage.write("other", provider_of(data))
                assert await storage.read_bytes("other") == data
            await storage.touch("other", ttl=5)
            await storage.rotate("other", "new")
            await storage.invalidate("new")
            await storage.purge()
        for pause, stream in zip(pauses, streams, strict=True):
            await pause.finish(stream)
        assert await storage.read_bytes("written 24") == INLINE + b"end"
        assert await storage.read_bytes("written 23") == LARGE + b"end"
        assert {stream.result() for stream in streams[26::2]} == {INLINE}
        assert {stream.result() for stream in streams[25::2]} == {LARGE}
        await quiet(sql)
        await assert_nothing_held(sql, sql_url)
