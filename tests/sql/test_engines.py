"""Whose engine, which event loop, which settings."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from sqlsessions import SqlSessionStorage, StorageUnavailable, metadata
from sqlsessions.sql.engine import engines
from sqlsessions.testing._base import PATIENCE, provider_of

from .support import INLINE, LARGE, TINY, each_database, each_network_driver, each_server, kind, query, sqlite


async def use(storage: SqlSessionStorage, name: str = "id") -> None:
    """Do one of everything."""
    await storage.write_bytes(name, INLINE)
    await storage.write(name, provider_of(LARGE))
    assert await storage.read_bytes(name) == LARGE
    await storage.touch(name, ttl=3600)
    await storage.rotate(name, f"{name} rotated")
    await storage.write_bytes(f"{name} rotated", INLINE, subject="ann")
    await storage.purge()
    await storage.revoke("ann")
    await storage.write_bytes(name, LARGE)


async def isolation(engine: AsyncEngine) -> Any:
    async with engine.connect() as connection:
        return await connection.get_isolation_level()


def uses_begin(engine: AsyncEngine) -> AsyncEngine:
    """SQLAlchemy's recipe for SQLite transactions that begin when they should."""

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


@pytest.mark.parametrize("level", [None, "SERIALIZABLE", "AUTOCOMMIT"])
async def test_the_callers_engine_stays_as_it_was(sql_url: str, level: str | None) -> None:
    engine = create_async_engine(sql_url, pool_size=1, max_overflow=0)
    if level:
        engine = engine.execution_options(isolation_level=level)
    await check_unchanged(engine, sql_url, left=0 if level == "AUTOCOMMIT" else 1)


@sqlite
async def test_the_callers_engine_keeps_its_begin_event(sql_url: str) -> None:
    await check_unchanged(
        uses_begin(create_async_engine(sql_url, pool_size=1, max_overflow=0)), sql_url, left=1
    )


async def check_unchanged(engine: AsyncEngine, url: str, left: int) -> None:
    """Use an engine for a storage; a rolled-back DELETE then leaves as many sessions as before."""
    before, pool = await isolation(engine), engine.pool
    async with SqlSessionStorage(engine, **TINY) as storage:
        assert storage.engine is engine
        await use(storage)
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert await isolation(engine) == before
    assert engine.pool is pool
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    assert await isolation(engine) == before
    async with engine.connect() as connection:
        await connection.execute(text("DELETE FROM sessions"))
        await connection.rollback()
    assert await query(url, "SELECT count(*) FROM sessions") == [(left,)]
    await engine.dispose()


@each_database
async def test_what_goes_through_the_callers_engine_is_committed(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    if kind(sql_url) == "sqlite":
        uses_begin(engine)
    async with SqlSessionStorage(engine, **TINY) as storage, SqlSessionStorage(sql_url, **TINY) as other:
        for data in (INLINE, LARGE, INLINE):
            info = await storage.write_bytes("id", data)
            assert await other.info("id") == info
        await storage.rotate("id", "new")
        assert await other.read_bytes("new") == INLINE
        await storage.invalidate("new")
        assert await other.load("new") is None
    await engine.dispose()


async def test_one_shared_connection_serves_fifty_operations_at_once() -> None:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with SqlSessionStorage(engine, **TINY) as storage, asyncio.timeout(PATIENCE):
        await asyncio.gather(*(use(storage, f"id {number}") for number in range(50)))
        assert len([info async for info in storage.sessions()]) == 50
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM sessions"))).scalar() == 50
    await engine.dispose()


def in_a_new_loop(call: Callable[[], Any]) -> Any:
    """Run something in an event loop of its own in another thread."""

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await call()

    return asyncio.to_thread(lambda: asyncio.run(bounded()))


@each_network_driver
async def test_the_callers_engine_in_a_second_loop_says_what_to_do(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    async with SqlSessionStorage(engine, **TINY) as storage:
        await use(storage, "first")
        with pytest.raises(StorageUnavailable, match=r"another event loop.*URL.*NullPool"):
            await in_a_new_loop(lambda: use(storage, "second"))
        await use(storage, "third")
    await engine.dispose()


@each_database
async def test_the_callers_engine_without_a_pool_serves_any_loop(sql_url: str) -> None:
    async with SqlSessionStorage(create_async_engine(sql_url, poolclass=NullPool), **TINY) as storage:
        await use(storage, "first")
        await in_a_new_loop(lambda: use(storage, "second"))
        await use(storage, "third")
        assert len([info async for info in storage.sessions()]) == 3


@each_database
async def test_a_url_serves_two_loops_at_once(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        meet = threading.Barrier(2)

        async def many(name: str) -> AsyncEngine:
            await asyncio.to_thread(meet.wait, PATIENCE)
            for number in range(5):
                await use(storage, f"{name} {number}")
            return storage.engine

        mine, other = await asyncio.gather(many("mine"), in_a_new_loop(lambda: many("other")))
        assert mine is not other
        assert len([info async for info in storage.sessions()]) == 10


async def test_databases_in_memory_are_separate() -> None:
    async with (
        SqlSessionStorage("sqlite://") as one,
        SqlSessionStorage("sqlite+aiosqlite:///:memory:") as two,
    ):
        await one.write_bytes("id", b"one")
        assert await two.load("id") is None
        await in_a_new_loop(lambda: one.write_bytes("id", b"from another loop"))
        assert await one.read_bytes("id") == b"from another loop"


@sqlite
@pytest.mark.parametrize(("asked", "synchronous"), [("FULL", 2), ("normal", 1)])
async def test_our_sqlite_connections_are_set_up(sql_url: str, asked: str, synchronous: int) -> None:
    async with SqlSessionStorage(sql_url, synchronous=asked, busy_timeout=7) as storage:
        await storage.write_bytes("id", INLINE)
        async with storage.engine.connect() as first, storage.engine.connect() as second:
            for connection in (first, second):
                found = [
                    (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                    for name in ("journal_mode", "synchronous", "busy_timeout")
                ]
                assert found == ["wal", synchronous, 7000]


def test_closing_right_after_work_has_an_end() -> None:
    """Tasks that are done may still be known when a storage is closed: on Python 3.12 and newer, to gather
    them does not suspend, so that they stay known for ever."""
    code = """
import asyncio
from sqlsessions import SqlSessionStorage

async def main() -> None:
    storage = SqlSessionStorage("sqlite://")
    await storage.write_bytes("id", b"data")
    await asyncio.sleep(0)
    await storage.aclose()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


@sqlite
async def test_closing_does_not_wait_for_a_loop_that_waits_for_it(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a test that leaves its client: the client's event loop closes the storage, and the test's waits."""
    monkeypatch.setattr(engines, "BLOCKED_AFTER", 0.05)
    storage = SqlSessionStorage(sql_url)
    await storage.write_bytes("here", b"data")

    async def close_there() -> None:
        await storage.write_bytes("there", b"data")
        await storage.aclose()

    thread = threading.Thread(target=asyncio.run, args=[close_there()], daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert "is blocked" in caplog.text
    await asyncio.sleep(0)  # what was left to this loop begins
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


@each_server
@pytest.mark.parametrize("option", [{"pool_recycle": 280}, {"pool_pre_ping": True}, {}], ids=str)
async def test_connections_that_the_pool_is_to_look_at_are_kept_by_the_pool(
    sql_url: str, option: dict[str, Any]
) -> None:
    async with SqlSessionStorage(sql_url, engine_options=option) as storage:
        await storage.write_bytes("id", b"data")
        assert bool(storage._database.engines.state().kept_idle) is not bool(option)
