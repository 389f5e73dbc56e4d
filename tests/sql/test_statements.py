"""Small is one statement, and a touch costs no more than it must."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sqlsessions import SessionConflict, SqlSessionStorage
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of, whole

from .support import (
    INLINE,
    LARGE,
    TINY,
    chunk_rows,
    each_database,
    holding,
    mariadb,
    postgresql,
    query,
    statements,
    touching,
    verbs,
)

NEAR_LIMIT = [0, 1, 99, 100]


@each_database
@pytest.mark.parametrize("size", NEAR_LIMIT)
async def test_a_small_read_is_one_select(storage: SqlSessionStorage, size: int) -> None:
    await storage.write_bytes("id", b"x" * size)
    for call in (
        storage.read_bytes("id"),
        storage.read("id", whole),
        storage.load("id"),
        storage.info("id"),
        storage.load("nobody's"),
    ):
        async with statements(storage) as seen:
            await call
        assert verbs(seen) == ["SELECT"]


@each_database
async def test_reading_data_fetches_nothing_that_it_has_no_use_for(storage: SqlSessionStorage) -> None:
    await storage.write_bytes("id", b"x")
    async with statements(storage) as seen:
        await storage.read_bytes("id")
        await asyncio.gather(
            *(storage.read_bytes(id) for id in ("id", "nobody's", "id", "id")), return_exceptions=True
        )
    selects = [statement for statement in seen if "FROM sessions" in statement]
    assert selects
    for statement in selects:
        assert not any(
            each in statement for each in ("labels", "client", "subject", "created_at", "touched_at")
        )


@each_database
async def test_reads_of_different_parts_in_one_batch_get_what_each_wants(storage: SqlSessionStorage) -> None:
    await storage.write_bytes("small", b"x" * 50, subject="ann", labels=["a"], client={"ip": "::1"})
    await storage.write_bytes("large", LARGE)
    reads = [
        (read, id) for id in ("small", "large") for read in (storage.read_bytes, storage.load, storage.info)
    ]
    alone = [await read(id) for read, id in reads]
    assert await asyncio.gather(*(read(id) for read, id in reads)) == alone


@each_database
@pytest.mark.parametrize("size", NEAR_LIMIT)
@pytest.mark.parametrize(
    "options",
    [{}, {"ttl": 5, "max_age": None, "subject": "ann"}, {"if_match": "last"}],
    ids=["plain", "all", "if_match"],
)
async def test_a_small_write_is_one_upsert(
    storage: SqlSessionStorage, size: int, options: dict[str, Any]
) -> None:
    new, old = ({"if_match": 0}, {}) if "if_match" in options else (options, options)
    async with statements(storage) as seen:
        info = await storage.write_bytes("id", b"x" * size, **new)
    assert verbs(seen) == ["INSERT"]
    async with statements(storage) as seen:
        for data in (b"1" * size, b"22"):
            if "if_match" in options:
                old = {"if_match": info.version}
            info = await storage.write("id", provider_of(data[:1], data[1:]), **old)
    if "if_match" not in options:
        rewritten = not options and storage.engine.dialect.name == "sqlite"
        assert verbs(seen) == ["UPDATE" if rewritten else "INSERT"] * 2
    elif storage.engine.dialect.update_returning:
        assert verbs(seen) == ["UPDATE"] * 2
    else:  # MariaDB has no UPDATE ... RETURNING, and an upsert would bring back an ended session
        assert verbs(seen) == ["START", "UPDATE", "SELECT", "COMMIT"] * 2  # in a packet each
    assert await storage.read_bytes("id") == b"22"


@each_database
async def test_a_byte_more_is_staged(storage: SqlSessionStorage, sql_url: str) -> None:
    info = await storage.write_bytes("id", b"x" * 101)
    assert await chunk_rows(sql_url) == [(info.version, 0), (info.version, 1)]
    assert await query(sql_url, "SELECT count(*) FROM sessions WHERE data IS NULL") == [(1,)]


@each_database
async def test_a_small_invalidation_deletes_and_leaves_a_trace(storage: SqlSessionStorage) -> None:
    await storage.write_bytes("id", INLINE)
    async with statements(storage) as seen:
        await storage.invalidate("id")
    assert (
        verbs(seen)
        == {
            "postgresql": ["WITH"],
            "sqlite": ["DELETE", "INSERT"],  # in one go
            "mysql": ["START", "INSERT", "DELETE", "COMMIT"],  # in one packet
        }[storage.engine.dialect.name]
    )


@each_database
@pytest.mark.parametrize("data", [INLINE, LARGE], ids=["small", "large"])
async def test_a_touch_writes_once_it_gains_five_percent(
    storage: SqlSessionStorage, sql_url: str, clock: ManualClock, data: bytes
) -> None:
    await storage.write_bytes("id", data, ttl=1000)
    clock.advance(49)
    async with statements(storage) as seen:
        await storage.touch("id")
        await storage.touch("nobody's")
    assert verbs(seen) == ["SELECT", "SELECT"]
    clock.advance(1)
    async with statements(storage) as seen:
        await storage.touch("id")
        await storage.touch("id")
    assert verbs(seen) == ["SELECT", *touching(sql_url), "SELECT"]
    assert not any("sessions.data" in statement or "SET data" in statement for statement in seen)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True)
async def test_a_touch_that_need_not_be_durable_is_still_one_statement(
    sql_url: str, clock: ManualClock, durable: bool
) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, durable_touches=durable) as storage:
        for id in ("id", "other"):
            await storage.write_bytes(id, INLINE, ttl=100)
        clock.advance(50)
        async with statements(storage) as seen:
            touched = await storage.touch("id")
        assert verbs(seen) == ["SELECT", "UPDATE"]
        assert ("synchronous_commit" in seen[-1]) is not durable
        assert touched == await storage.info("id")
        assert touched is not None
        write = storage.write_bytes("id", INLINE, if_match=touched.version)
        [other, _] = await asyncio.gather(storage.touch("other"), write)
        assert other == await storage.info("other")
        assert other is not None
        assert other.expires_at == touched.expires_at
        async with storage.engine.connect() as connection:
            assert (await connection.exec_driver_sql("SHOW synchronous_commit")).scalar() == "on"


@each_database
async def test_info_and_listing_leave_the_data_where_it_is(storage: SqlSessionStorage) -> None:
    await storage.write_bytes("id", INLINE, subject="ann")
    async with statements(storage) as seen:
        await storage.info("id")
        assert len([info async for info in storage.sessions("ann")]) == 1
    assert not any("data" in statement for statement in seen)


@each_database
@pytest.mark.parametrize("condition", ["none", "if_match"])
async def test_a_small_write_over_a_large_session_leaves_a_mark(
    storage: SqlSessionStorage, sql_url: str, clock: ManualClock, condition: str
) -> None:
    large = await storage.write_bytes("id", LARGE, ttl=77, subject="ann")
    clock.advance(5)
    options: dict[str, Any] = {"if_match": large.version} if condition == "if_match" else {}
    small = await storage.write_bytes("id", INLINE, **options)
    assert (small.subject, small.created_at) == ("ann", large.created_at)
    assert small.expires_at is not None
    assert (small.expires_at - clock.now).total_seconds() == 77
    assert await storage.read_bytes("id") == INLINE
    [(mark,)] = await query(
        sql_url,
        "SELECT data FROM session_chunks WHERE version = :version AND seq = -1",
        version=large.version,
    )
    # By the database's clock, whatever the service's says.
    assert abs(int.from_bytes(mark, "big") / 1e6 - time.time()) < 30


@mariadb
async def test_without_returning_all_is_the_same(sql_url: str, clock: ManualClock) -> None:
    """MySQL has no RETURNING; MariaDB, made to do without, stands in for it."""
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, **TINY) as storage:
        storage.engine.dialect.insert_returning = storage.engine.dialect.update_returning = False
        await storage.info("warm")
        storage.engine.dialect.insert_returning = storage.engine.dialect.update_returning = False
        async with statements(storage) as seen:
            for data in (b"", INLINE, LARGE, b"x" * 100, b"x" * 101, INLINE):
                info = await storage.write_bytes("id", data, subject="ann")
                assert await storage.load("id") is not None
                assert (await storage.read_bytes("id"), info) == (data, await storage.info("id"))
            for stale in (0, info.version - 1, info.version + 1):
                with pytest.raises(SessionConflict):
                    await storage.write_bytes("id", b"refused", if_match=stale)
            clock.advance(10)
            second = await storage.write_bytes("id", b"second", if_match=info.version)
            assert second == await storage.info("id")
            assert (second.created_at, second.subject) == (info.created_at, "ann")
            await storage.invalidate("id")
            with pytest.raises(SessionConflict):
                await storage.write_bytes("id", b"refused", if_match=second.version)
            assert await storage.load("id") is None
            third = await storage.write_bytes("id", b"third", if_match=0)
            assert (await storage.read_bytes("id"), third.subject) == (b"third", None)
        assert not any("RETURNING" in statement for statement in seen)


@postgresql
async def test_a_touch_and_a_rewrite_are_heap_only_updates(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1) as storage:

        async def updates() -> tuple[int, int]:
            async with holding(storage, 1) as [driver]:
                await driver.execute("SELECT pg_stat_force_next_flush()")
                found = await driver.fetchrow(
                    "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
                )
                return tuple(found)

        info = await storage.write_bytes("id", INLINE)
        updated, hot = await updates()
        for _ in range(5):
            clock.advance(2 * 86_400)
            await storage.touch("id")
            info = await storage.write_bytes("id", INLINE, if_match=info.version)
            await storage.write_bytes("id", INLINE)
            info = await storage.write_bytes("id", INLINE)
        assert await updates() == (updated + 20, hot + 20)
