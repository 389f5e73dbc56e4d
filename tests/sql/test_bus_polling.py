"""The bus of MariaDB and MySQL: notices that triggers leave, and that every process polls."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sqlsessions import CacheStorage, SqlSessionStorage, schema
from sqlsessions.sql.bus import polling
from sqlsessions.sql.bus.polling import PollingBus
from sqlsessions.testing import ManualClock

from ..cache.support import key
from .buses import HOUR, cached, proven, until, until_gone
from .support import query

pytestmark = pytest.mark.usefixtures("polling_often")
each_polled = pytest.mark.parametrize("sql_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)

LEFT = "SELECT count(*) FROM session_notices"
SPECIAL = "SELECT seq FROM session_chunks WHERE seq IN (-6, -7) ORDER BY seq"


def bus_of(cache: CacheStorage) -> PollingBus:
    assert isinstance(cache._bus, PollingBus)
    return cache._bus


async def polls(cache: CacheStorage, number: int = 2) -> None:
    """Wait for some polls."""
    bus = bus_of(cache)
    for _ in range(number):
        before = bus._polled

        async def polled() -> bool:
            return bus._polled != before  # noqa: B023 (awaited at once)

        await until(polled)


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, isolation_level="READ COMMITTED")
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@each_polled
async def test_a_transaction_that_commits_late_is_seen(sql_url: str) -> None:
    """Its notices have lower numbers than others that were seen, and deleted, long before."""
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old", subject="ann")
        await there.write_bytes("other", b"old", subject="bob")
        async with transaction(sql_url) as late:
            await late.exec_driver_sql("DELETE FROM sessions WHERE subject = 'ann'")
            assert await cache.read_bytes("id") == b"old"
            assert await cache.read_bytes("other") == b"old"
            await there.write_bytes("other", b"new")

            async def seen() -> bool:
                return await cache.read_bytes("other") == b"new"

            await until(seen)
            await polls(cache)
            assert await cache.read_bytes("id") == b"old"
            await late.commit()
        await until_gone(cache)


@each_polled
async def test_a_transaction_that_is_rolled_back_leaves_nothing(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        info = await cache.write_bytes("id", b"data")
        async with transaction(sql_url) as other:
            await other.exec_driver_sql("DELETE FROM sessions")
            await other.rollback()
        await polls(cache)
        hits = cache.statistics.hits
        assert await cache.info("id") == info
        assert cache.statistics.hits == hits + 1


@each_polled
async def test_notices_are_deleted_once_every_process_has_seen_them(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached(sql_url) as one, cached(sql_url) as two, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old")
        await there.write_bytes("id", b"new")
        await polls(one)
        await polls(two)
        assert await query(sql_url, LEFT) >= [(1,)]
        monkeypatch.setattr(polling, "GRACE", 0.2)
        for bus in (bus_of(one), bus_of(two)):
            bus._patience = polling._patience()

        async def deleted() -> bool:
            return await query(sql_url, LEFT) == [(0,)]

        await until(deleted)
        await polls(one)
        assert not bus_of(one)._seen


@each_polled
async def test_a_process_that_polled_too_late_has_a_gap(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        await cache.write_bytes("id", b"data")
        bus = bus_of(cache)
        assert bus._polled is not None
        assert bus.statistics.gaps == 0
        await polls(cache)
        bus._polled -= polling.GRACE
        await polls(cache)
        assert bus.statistics.gaps == 1
        assert cache.statistics.entries <= 1
        await proven(cache)


@each_polled
async def test_a_burst_empties_caches_and_is_cleared_away(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached(sql_url) as cache, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"old")
        ids = [f"id {number}" for number in range(20)]
        await asyncio.gather(*(there.write_bytes(each, b"old", subject="many") for each in ids))
        assert await cache.read_bytes("id") == b"old"
        monkeypatch.setattr(polling, "MOST", 10)
        monkeypatch.setattr(polling, "PER_DELETE", 7)
        await there.revoke("many")
        await there.invalidate("id")

        async def emptied() -> bool:
            return bus_of(cache).statistics.gaps > 0

        await until(emptied)
        assert await cache.load("id") is None
        assert cache.statistics.bus is not None
        assert not cache.statistics.bus.proven
        monkeypatch.setattr(polling, "GRACE", 0.3)
        bus_of(cache)._patience = 0.6
        await proven(cache)
        assert await query(sql_url, LEFT) < [(10,)]


@each_polled
async def test_nothing_is_left_where_nobody_polls(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        for data in (b"old", b"new"):
            await storage.write_bytes("id", data)
        await storage.invalidate("id")
        assert await query(sql_url, LEFT) == [(0,)]
        async with cached(sql_url):
            pass
        await storage.write_bytes("id", b"old")
        await storage.touch("id", ttl=HOUR)
        before = await query(sql_url, LEFT)
        await storage.write_bytes("id", b"new")
        assert await query(sql_url, LEFT) == [(before[0][0] + 1,)]  # neither of what is new nor of a touch
        await storage.purge()
        assert await query(sql_url, LEFT) == [(before[0][0] + 1,)]  # somebody has polled just now
        await query(
            sql_url, "UPDATE session_chunks SET data = unhex(lpad(hex((unix_timestamp() - 200) * 1000000), 16, '0'))"
            " WHERE seq = -7"
        )  # fmt: skip
        await storage.purge()
        assert await query(sql_url, LEFT) == [(0,)]
        assert await query(sql_url, SPECIAL) == [(-7,), (-6,)]
        await query(sql_url, "UPDATE session_chunks SET data = unhex(repeat('00', 16)) WHERE seq = -7")
        await storage.purge()
        assert await query(sql_url, SPECIAL) == []


@each_polled
async def test_who_polls_notices_that_triggers_were_told_to_leave_nothing(sql_url: str) -> None:
    async with cached(sql_url) as cache:
        await cache.write_bytes("id", b"data")
        await query(sql_url, "DELETE FROM session_chunks WHERE seq = -6")

        async def emptied() -> bool:
            return bus_of(cache).statistics.gaps > 0

        await until(emptied)
        await proven(cache)
        assert await query(sql_url, SPECIAL) == [(-7,), (-6,)]


@each_polled
async def test_until_every_transaction_leaves_notices_the_bound_of_the_cache_holds(
    sql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SETTLED", HOUR)
    async with CacheStorage(SqlSessionStorage(sql_url, clock=clock)) as cache:
        await cache.write_bytes("id", b"data")
        await cache.info("id")  # starts the bus
        await polls(cache)
        await bounded(cache, clock)


@pytest.mark.parametrize("database_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)
async def test_without_triggers_the_bound_of_the_cache_holds(
    database_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the user that made the tables may create none."""
    await schema.upgrade(database_url)
    for name in ("update", "delete"):
        await query(database_url, f"DROP TRIGGER sqlsessions_notice_{name}")
    caplog.set_level(logging.WARNING, "sqlsessions")
    monkeypatch.setattr(polling, "RECHECK", 0.1)
    async with CacheStorage(SqlSessionStorage(database_url, clock=clock)) as cache:
        await cache.write_bytes("id", b"data")
        await cache.info("id")

        async def known() -> bool:
            bus = cache.statistics.bus
            return bus is not None and bus.obstacle == polling.NO_TRIGGERS

        await until(known)
        await bounded(cache, clock)
        assert caplog.text.count("run `sqlsessions upgrade`") == 1
        assert await query(database_url, "SELECT count(*) FROM sessions") == [(1,)]
        await schema.downgrade(database_url, "sqlsessions_0004")
        await schema.upgrade(database_url)
        await proven(cache)
    await schema.downgrade(database_url, "sqlsessions_0002")
    assert await query(database_url, SPECIAL) == []
    assert await query(database_url, "SHOW TABLES LIKE 'session_notices'") == []


@pytest.mark.parametrize("database_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)
async def test_tables_of_the_revision_before_leave_notices_too(database_url: str) -> None:
    await schema.upgrade(database_url, "sqlsessions_0004")
    async with cached(database_url) as cache, SqlSessionStorage(database_url) as there:
        await cache.write_bytes("id", b"data")
        assert await cache.read_bytes("id") == b"data"
        await there.invalidate("id")
        await until_gone(cache)


@each_polled
@pytest.mark.parametrize("noticed", [False, True])
async def test_a_statement_that_writes_several_rows_shares_the_lock_of_none(
    sql_url: str, noticed: bool
) -> None:
    """Two that did, and then asked for the lock alone, would deadlock."""
    if noticed:
        await query(
            sql_url,
            "INSERT INTO session_chunks (version, id, seq, data) VALUES (0, unhex(repeat('00', 32)), -6, '')",
        )
    columns = "sessions (id, version, size, created_at, updated_at, data)"
    write = f"INSERT INTO {columns} VALUES ('1', 1, 0, 0, 0, ''), ('2', 1, 0, 0, 0, '')"
    await query(sql_url, write)
    async with transaction(sql_url) as holder, transaction(sql_url) as waiter:
        await holder.exec_driver_sql("UPDATE sessions SET size = 1 WHERE id = CAST('2' AS BINARY(32))")
        over = f"{write} ON DUPLICATE KEY UPDATE version = sessions.version + 1"
        waiting = asyncio.create_task(waiter.exec_driver_sql(over))
        waited_for = rf"table `{make_url(sql_url).database}`\.`sessions` trx id \d+ lock.mode (\S+) .*waiting"

        async def waits() -> list[str]:
            [(*_, status)] = await query(sql_url, "SHOW ENGINE INNODB STATUS")
            return re.findall(waited_for, status)

        async def known() -> bool:
            return bool(await waits())

        await until(known)
        modes = await waits()
        await holder.rollback()
        await waiting
        await waiter.rollback()
    assert modes == ["X"]


async def bounded(cache: CacheStorage, clock: ManualClock) -> None:
    """The cache serves what it holds for its ``max_staleness``, and compares it then."""
    await cache.write_bytes("id", b"held")
    before = cache.statistics
    assert await cache.read_bytes("id") == b"held"
    assert cache.statistics.hits == before.hits + 1
    clock.advance(3)
    assert await cache.read_bytes("id") == b"held"
    after = cache.statistics
    assert (after.checked - before.checked, after.bypassed - before.bypassed) == (1, 0)
    assert after.bus is not None
    assert not after.bus.proven


@each_polled
@pytest.mark.parametrize(
    "settings",
    [
        {"wsrep_on": "ON", "wsrep_sync_wait": "0"},
        {"group_replication_single_primary_mode": "OFF", "group_replication_consistency": "AFTER"},
    ],
    ids=["Galera", "Group Replication"],
)
async def test_on_a_node_whose_reads_may_be_behind_the_bound_of_the_cache_holds(
    sql_url: str, settings: dict[str, str], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    selects = (f"SELECT '{name}', '{value}'" for name, value in settings.items())
    monkeypatch.setattr(polling, "_CLUSTER", " UNION ALL ".join(selects))
    async with CacheStorage(SqlSessionStorage(sql_url, clock=clock)) as cache:
        await cache.write_bytes("id", b"data")
        await cache.info("id")

        async def known() -> bool:
            bus = cache.statistics.bus
            return bus is not None and bus.obstacle == polling.NOT_CAUSAL

        await until(known)
        await bounded(cache, clock)


@pytest.mark.parametrize("database_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)
async def test_a_user_who_may_create_no_triggers_migrates_all_the_same(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """MariaDB's lacks the right, MySQL's has a binary log and no SUPER."""
    url = make_url(database_url)
    user = f"u{key(str(url.database))[:20]}"
    is_mysql = "MySQL" in database_url or (await query(database_url, "SELECT @@log_bin"))[0][0] == 1
    rights = "ALL" if is_mysql else "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES"
    await query(database_url, f"CREATE USER {user}@'%'")
    try:
        await query(database_url, f"GRANT {rights} ON {url.database}.* TO {user}@'%'")
        await schema.upgrade(url.set(username=user))
        assert "may not create the trigger" in caplog.text
        await schema.check(url.set(username=user))
        await schema.downgrade(database_url, "sqlsessions@base")
        await schema.create_tables(url.set(username=user))
        await schema.check(url.set(username=user))
    finally:
        await query(database_url, f"DROP USER {user}@'%'")


def test_the_patience_of_a_process_is_longer_than_the_gap_of_another() -> None:
    values: list[Any] = [polling._patience() for _ in range(100)]
    assert all(polling.GRACE < value < 3 * polling.GRACE for value in values)
