"""The bus of PostgreSQL: notices that triggers send."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import CacheStorage, SqlSessionStorage, metadata, schema
from sqlsessions.cache.bus import listening
from sqlsessions.sql.bus import postgresql as bus
from sqlsessions.sql.bus.postgresql import OUTLASTING, PostgreSQLBus

from ..databases import available
from .buses import HOUR, cached, proven, until, until_gone
from .support import query

each_listener = pytest.mark.parametrize(
    "sql_url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True
)
listener = pytest.mark.parametrize("sql_url", ["postgresql+asyncpg"], indirect=True)


@listener
async def test_in_a_schema_whose_name_needs_quotes(sql_url: str) -> None:
    await query(sql_url, 'CREATE SCHEMA "te""n t"')
    engine = create_async_engine(sql_url, execution_options={"schema_translate_map": {None: 'te"n t'}})
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with cached(engine) as cache, SqlSessionStorage(engine) as there:
        await there.write_bytes("id", b"old")
        assert await cache.read_bytes("id") == b"old"
        await there.invalidate("id")
        await until_gone(cache)
    await engine.dispose()


async def _terminate(url: str) -> None:
    await query(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'SELECT pg_notify(%' AND pid <> pg_backend_pid()",
    )


@each_listener
async def test_a_connection_that_is_lost_is_a_gap(sql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old")
        assert await cache.read_bytes("id") == b"old"
        await _terminate(sql_url)

        async def noticed() -> bool:
            return bool(cache.statistics.bus and cache.statistics.bus.gaps)

        await until(noticed)
        assert cache.statistics.entries == 0
        await proven(cache)
        assert await cache.read_bytes("id") == b"old"
        await there.invalidate("id")
        await until_gone(cache)
        statistics = cache.statistics.bus
        assert statistics is not None
        assert statistics.gaps == 1
    assert "the bus of caches is down" in caplog.text


@listener
async def test_a_heartbeat_that_stays_away_makes_reads_checked(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old")
        assert await cache.read_bytes("id") == b"old"
        monkeypatch.setattr(PostgreSQLBus, "_arrived", lambda *_: None)  # for the next connection
        its = cache._bus
        assert isinstance(its, PostgreSQLBus)
        monkeypatch.setattr(its, "_hear", lambda _heartbeat: None)
        monkeypatch.setattr(its, "_deliver", lambda _notices: None)

        async def unproven() -> bool:
            return not (cache.statistics.bus and cache.statistics.bus.proven)

        await until(unproven)
        await there.invalidate("id")
        assert await cache.load("id") is None
        assert cache.statistics.bypassed


@listener
async def test_a_transaction_from_before_anybody_listened_is_outlasted(sql_url: str) -> None:
    """Its trigger found that nobody does, so that it commits without a notice."""
    async with SqlSessionStorage(sql_url) as there, CacheStorage(SqlSessionStorage(sql_url)) as cache:
        await there.write_bytes("id", b"old")
        engine = create_async_engine(sql_url)
        async with engine.connect() as connection:
            await connection.exec_driver_sql("DELETE FROM sessions")

            async def waits() -> bool:
                assert await cache.read_bytes("id") == b"old"
                assert cache.statistics.bus is not None
                assert not cache.statistics.bus.proven
                return cache.statistics.bus.obstacle == OUTLASTING

            await until(waits)
            await connection.commit()
        await engine.dispose()
        assert await cache.load("id") is None
        await proven(cache)


@listener
async def test_while_the_queue_of_notices_fills_up_every_read_is_compared(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before triggers stop to send any."""
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await cache.write_bytes("id", b"data")
        monkeypatch.setattr(listening, "DEAD_AFTER", 0.1)
        monkeypatch.setattr(bus, "_HEARTBEAT", bus._HEARTBEAT.replace("< 0.25", "< -1"))

        async def emptied() -> bool:
            return bool(cache.statistics.bus and cache.statistics.bus.gaps)

        await until(emptied)
        assert await cache.read_bytes("id") == b"data"
        await there.invalidate("id")
        assert await cache.load("id") is None


@listener
async def test_a_burst_empties_the_caches_of_others(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        await cache.write_bytes("id", b"data")
        await query(
            sql_url,
            "INSERT INTO sessions (id, version, data, size, subject, created_at, updated_at)"
            " SELECT sha256(int8send(i)), 1, '', 0, 'many', 0, 0 FROM generate_series(1, 5001) AS i",
        )
        await query(sql_url, "DELETE FROM sessions WHERE subject = 'many'")

        async def emptied() -> bool:
            return bool(cache.statistics.bus and cache.statistics.bus.gaps)

        await until(emptied)
        assert await cache.read_bytes("id") == b"data"
        await query(sql_url, "TRUNCATE sessions")
        await until_gone(cache)


@listener
@pytest.mark.parametrize("listened", [True, False])
async def test_notices_are_sent_only_if_somebody_listens(sql_url: str, listened: bool) -> None:
    import asyncpg

    heard: list[str] = []
    plain = make_url(sql_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    await connection.add_listener("sqlsessions", lambda *arguments: heard.append(arguments[3]))
    async with SqlSessionStorage(sql_url) as there:
        if listened:
            async with cached(sql_url):
                pass
        await asyncio.gather(*(there.write_bytes(f"id {number}", b"old") for number in range(200)))
        await there.touch("id 0", ttl=HOUR)
        await connection.execute("SELECT 1")
        heard.clear()  # new sessions, which nobody holds, and a touch, are not told
        await asyncio.gather(*(there.write_bytes(f"id {number}", b"new") for number in range(200)))
        await connection.execute("SELECT 1")
        assert sum(len(each) for each in heard) == (200 * 80 if listened else 0)
        assert len(heard) < 60
        assert all(len(each) < 8000 for each in heard)
        if listened:  # until it is known that nobody has for long
            await there.purge()
            assert await query(sql_url, "SELECT count(*) FROM session_chunks WHERE seq = -5") == [(1,)]
            await query(sql_url, "UPDATE session_chunks SET data = int8send(0) WHERE seq = -5")
            await there.purge()
            assert await query(sql_url, "SELECT count(*) FROM session_chunks WHERE seq = -5") == [(0,)]
    await connection.close()


@listener
async def test_nothing_is_sent_by_a_transaction_that_is_rolled_back(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        info = await cache.write_bytes("id", b"data", subject="ann")
        engine = create_async_engine(sql_url)
        async with engine.connect() as connection:
            await connection.exec_driver_sql("DELETE FROM sessions")
            await connection.rollback()
        await engine.dispose()
        await asyncio.sleep(0.05)
        before = cache.statistics
        assert await cache.info("id") == info
        assert cache.statistics.hits == before.hits + 1


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg"], indirect=True)
async def test_tables_without_triggers_make_reads_checked(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where somebody's own migrations made the tables."""
    await schema.upgrade(database_url)
    for name in ("update", "delete", "truncate"):
        await query(database_url, f"DROP TRIGGER sqlsessions_notify_{name} ON sessions")
    caplog.set_level(logging.WARNING, "sqlsessions")
    async with CacheStorage(SqlSessionStorage(database_url)) as cache:
        await cache.write_bytes("id", b"data")
        for _ in range(3):
            assert await cache.read_bytes("id") == b"data"
            await asyncio.sleep(0.05)
        assert cache.statistics.bypassed == 3
        await query(database_url, "DELETE FROM sessions")
        assert await cache.load("id") is None
        assert "run `sqlsessions upgrade`" in caplog.text
        await schema.downgrade(database_url, "sqlsessions_0001")
        await schema.upgrade(database_url)
        await proven(cache)
    await schema.downgrade(database_url, "sqlsessions_0001")
    assert await query(database_url, "SELECT count(*) FROM pg_proc WHERE proname = 'sqlsessions_notify'") == [
        (0,)
    ]


@each_listener
async def test_closing_closes_the_connection(sql_url: str) -> None:
    listeners = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_notify(%'"
    async with cached(sql_url):
        pass

    async def closed() -> bool:
        return await query(sql_url, listeners + " AND pid <> pg_backend_pid()") == [(0,)]

    await until(closed)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "sqlsessions bus"]


def test_another_event_loop_starts_the_bus_again(sql_url_of_postgresql: str) -> None:
    async def use(storage: SqlSessionStorage, cache: CacheStorage) -> None:
        await proven(cache)

    storage = SqlSessionStorage(sql_url_of_postgresql)
    cache = CacheStorage(storage)
    for _ in range(2):
        asyncio.run(use(storage, cache))
    asyncio.run(cache.aclose())


@pytest.fixture
def sql_url_of_postgresql() -> Any:
    made_by = available("postgresql")
    url = made_by.create().set(drivername="postgresql+asyncpg")
    asyncio.run(schema.upgrade(url))
    yield url.render_as_string(hide_password=False)
    made_by.drop(url)
