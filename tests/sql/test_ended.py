"""Records of sessions that have ended: with their end or not at all, whose they are, how long they stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import (
    EndedSession,
    InvalidArgument,
    InvalidArgumentType,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.sql.internals import keep_ended_as_services
from sqlsessions.sql.statements.ends import WEEK
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE
from sqlsessions.testing._ended import CLIENT, ended

from ..databases import SERVED_BY
from ..faults.proxy import Proxy
from .support import (
    INLINE,
    LARGE,
    TINY,
    each_database,
    each_server,
    keep_rotating,
    query,
    reconnect,
    statements,
)

DAY = 86_400
KEPT = 30 * DAY
OLD, NEW = b"o" * 32, b"n" * 32
with_mysql = pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy", "MySQL+asyncmy"], indirect=True
)


async def reasons(storage: Any, subject: str | None = None) -> list[str]:
    return [each.reason for each in await ended(storage, subject)]


@contextmanager
def by_sqlalchemy(storage: SqlSessionStorage) -> Iterator[list[str]]:
    """The statements that are executed through SQLAlchemy in the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(" ".join(statement.split()))

    event.listen(storage.engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(storage.engine.sync_engine, "before_cursor_execute", note)


async def rows(url: str, table: str = "session_ends") -> int:
    [(number,)] = await query(url, f"SELECT count(*) FROM {table}")
    return int(number)


async def sayings(url: str) -> int:
    [(number,)] = await query(url, "SELECT count(*) FROM session_chunks WHERE version = -1")
    return int(number)


@each_database
async def test_what_is_kept_is_no_data_and_no_id(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, keep_ended=KEPT, **TINY) as storage:
        for data in (INLINE, LARGE):
            info = await storage.write_bytes("the id", data, subject="ann", client=CLIENT, labels=["a"])
            await storage.invalidate("the id")
            clock.advance(1)
        [row, _] = await query(
            sql_url,
            "SELECT id, version, reason, subject, created_at, used_at, client FROM session_ends ORDER BY ended_at DESC",
        )
    assert bytes(row[0]).hex() == info.key
    assert row[1:4] == (info.version, "ended", "ann")
    assert INLINE.decode() not in str(row)
    assert "the id" not in str(row)


@each_database
async def test_without_it_an_end_and_a_purge_are_what_they_were(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, **TINY) as storage:
        for id in ("id", "other"):
            await storage.write_bytes(id, INLINE, ttl=10)
        async with statements(storage) as seen:
            await storage.invalidate("id")
        assert not any("session_ends" in statement for statement in seen)
        clock.advance(DAY)
        with by_sqlalchemy(storage) as seen:
            assert await storage.purge() == 1
        assert not any("session_ends" in statement for statement in seen)
        deletes = [each for each in seen if each.startswith("DELETE FROM sessions")]
        assert len(deletes) == 1  # without being fetched
    assert await rows(sql_url) == await sayings(sql_url) == 0


@each_database
async def test_an_end_is_sent_with_its_record(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, keep_ended=KEPT) as storage:
        await storage.write_bytes("first", INLINE)
        await storage.invalidate("first")  # which says once that records are kept
        await storage.write_bytes("id", INLINE)
        async with statements(storage) as seen:
            await storage.invalidate("id")
        expected = {
            "postgresql": ["WITH"],
            "sqlite": ["DELETE", "INSERT", "INSERT"],  # in one go
            "mysql": ["START", "INSERT", "INSERT", "DELETE", "COMMIT"],  # in one packet
        }
        assert [each.split()[0] for each in seen] == expected[storage.engine.dialect.name]
        assert await rows(sql_url) == 2


@pytest.mark.parametrize(
    "sql_url",
    [*SERVED_BY, "MySQL+asyncmy"],
    indirect=True,
)
async def test_a_batch_of_many_ends_and_other_changes_leaves_a_record_of_each(
    sql_url: str, clock: ManualClock
) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, keep_ended=KEPT, **TINY) as storage:
        infos = {}
        for number in range(40):
            name, data = f"id {number}", LARGE if number % 10 == 9 else INLINE
            infos[name] = await storage.write_bytes(name, data, subject=f"{number}", client=CLIENT, ttl=100)
        clock.advance(50)
        touched = await storage.touch("id 0")
        assert touched is not None
        await asyncio.gather(
            *(storage.invalidate(f"id {number}") for number in range(20)),
            *(storage.invalidate_key(infos[f"id {number}"].key) for number in range(20, 30)),
            *(storage.touch(f"id {number}") for number in range(30, 35)),
            *(storage.write_bytes(f"id {number}", b"new") for number in range(35, 40)),
            storage.invalidate("nobody's"),
        )
        found = {each.subject: each for each in await ended(storage)}
        assert len(found) == await rows(sql_url) == 30
        for number in range(30):
            info, each = infos[f"id {number}"], found[f"{number}"]
            used = touched.used_at if number == 0 else info.updated_at
            assert (each.key, each.created_at, each.used_at) == (info.key, info.created_at, used)
            assert each.reason == ("ended" if number < 20 else "revoked")
            assert (each.client, each.ended_at) == (CLIENT, clock.now)


@with_mysql
async def test_with_the_callers_transaction_or_not_at_all(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    async with SqlSessionStorage(sql_url, keep_ended=KEPT, **TINY) as storage:
        infos = [
            await storage.write_bytes(f"id {number}", data, subject="ann" if number else None)
            for number, data in enumerate((INLINE, INLINE, LARGE))
        ]
        async with engine.connect() as connection:
            assert await storage.revoke("ann", connection=connection) == 2
            await connection.rollback()
            assert await ended(storage) == []
            assert await storage.revoke("ann", connection=connection) == 2
            assert await storage.invalidate_key(infos[0].key, connection=connection)
            await connection.commit()
        assert await reasons(storage) == ["revoked"] * 3
        assert {each.key for each in await ended(storage)} == {info.key for info in infos}
    await engine.dispose()


@with_mysql
async def test_the_oldest_that_end_for_a_new_one(sql_url: str, clock: ManualClock) -> None:
    options: dict[str, Any] = {"max_sessions_per_subject": 2, "keep_ended": KEPT, "clock": clock}
    for storage in (SqlSessionStorage(sql_url, **options, **TINY), SessionStorageMemory(**options)):
        async with storage:
            infos = []
            for number, data in enumerate((INLINE, LARGE, LARGE, INLINE)):
                clock.advance(1)
                infos.append(await storage.write_bytes(f"id {number}", data, subject="ann", client=CLIENT))
            found = await ended(storage, "ann")
            assert [(each.key, each.reason) for each in found] == [
                (info.key, "too_many") for info in (infos[1], infos[0])
            ]
            assert found[0].client == CLIENT
            assert found[0].ended_at == infos[3].created_at


@with_mysql
async def test_sessions_whose_ids_are_being_changed_leave_one_record_each(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, keep_ended=KEPT) as storage:
        for number in range(5):
            await storage.write_bytes(f"id {number}", INLINE, subject="ann", labels=["a"])
        started = [asyncio.Event() for _ in range(5)]
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for number, event in enumerate(started):
                tasks.create_task(keep_rotating(storage, f"id {number}", event))
            for event in started:
                await event.wait()
            assert await storage.revoke_all() == 5
        assert await reasons(storage) == ["revoked"] * 5


@each_server
async def test_however_a_reply_is_lost_there_is_one_record(sql_url: str, clock: ManualClock) -> None:
    calls: list[Callable[[SqlSessionStorage, str], Any]] = [
        lambda storage, _: storage.invalidate("id"),
        lambda storage, key: storage.invalidate_key(key),
        lambda storage, _: storage.revoke("ann"),
    ]
    async with (
        Proxy.to(sql_url) as proxy,
        SqlSessionStorage(proxy.url, clock=clock, keep_ended=KEPT, **TINY) as storage,
        SqlSessionStorage(sql_url, clock=clock, **TINY) as direct,
    ):
        await storage.write_bytes("first", INLINE)
        await storage.invalidate("first")
        for call in calls:
            for nth in count(1):
                clock.advance(1)
                info = await direct.write_bytes("id", INLINE, subject="ann")
                await reconnect(storage)
                async with asyncio.timeout(PATIENCE):
                    with proxy.losing("answer", nth):
                        await call(storage, info.key)
                [record] = await ended(direct, "ann", since=info.created_at)
                assert record.ended_at == info.created_at
                if not proxy.lost:
                    break
            assert nth > 1


@with_mysql
async def test_namespaces_keep_what_is_theirs_for_as_long_as_they_say(
    sql_url: str, clock: ManualClock
) -> None:
    async with (
        SqlSessionStorage(sql_url, clock=clock) as plain,
        SqlSessionStorage(sql_url, clock=clock, namespace="a", keep_ended=10 * DAY, **TINY) as a,
        SqlSessionStorage(sql_url, clock=clock, namespace="b", keep_ended=20 * DAY, **TINY) as b,
    ):
        storages = (plain, a, b)
        for storage in storages:
            for id in ("ended", "expired", "large"):
                await storage.write_bytes(id, LARGE if id == "large" else INLINE, subject="ann", ttl=DAY)
            await storage.invalidate("ended")
        assert [await reasons(storage, "ann") for storage in storages] == [[], ["ended"], ["ended"]]
        clock.advance(2 * DAY)
        assert await plain.purge() == 6  # of all, whoever purges
        assert [await reasons(each) for each in storages] == [[], *[["expired"] * 2 + ["ended"]] * 2]
        clock.advance(9 * DAY - 1)
        assert await plain.purge() == 0
        assert [await rows(sql_url), await reasons(a)] == [5, ["expired"] * 2]
        assert await a.forget_ended("ann") == 2
        assert len(await ended(b, "ann")) == 3
        clock.advance(10 * DAY)
        await a.purge()
        assert await reasons(b) == ["expired"] * 2
        clock.advance(DAY)
        await plain.purge()
        assert await rows(sql_url) == 0


@with_mysql
async def test_many_records_are_deleted(
    sql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlsessions.sql.purge.RECORDS_PER_DELETE", 10)
    async with SqlSessionStorage(sql_url, clock=clock, keep_ended=KEPT) as storage:
        for number in range(45):
            await storage.write_bytes(f"id {number}", INLINE, subject="ann" if number < 25 else None)
        await storage.revoke("ann")
        await storage.write_bytes("last", INLINE)
        clock.advance(KEPT - 10)
        for number in range(25, 45):
            clock.advance(0.25)
            await storage.invalidate(f"id {number}")
        clock.advance(5)
        await storage.invalidate("last")
        with by_sqlalchemy(storage) as seen:
            await storage.purge()
        assert len([each for each in seen if each.startswith("DELETE FROM session_ends")]) == 2
        assert len(await ended(storage)) == 21


@each_database
async def test_who_keeps_nothing_any_more_is_left_nothing(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, keep_ended=DAY) as before:
        await before.write_bytes("id", INLINE)
        await before.invalidate("id")
    async with SqlSessionStorage(sql_url, clock=clock) as after:
        await after.write_bytes("not recorded", INLINE)
        await after.invalidate("not recorded")
        clock.advance(2 * DAY)
        for passed, found in ((0, ["expired"]), (WEEK / 1_000_000, [])):
            clock.advance(passed)
            await after.write_bytes("expired", INLINE, ttl=1)
            clock.advance(2)
            assert await after.purge() == 1
            assert await reasons(after) == found
            assert await sayings(sql_url) == len(found)


@each_database
async def test_what_a_service_keeps_commands_keep_too(sql_url: str, clock: ManualClock) -> None:
    async with (
        SqlSessionStorage(sql_url, clock=clock, namespace="shop", keep_ended=KEPT) as service,
        SqlSessionStorage(sql_url, clock=clock, namespace="shop") as command,
        SqlSessionStorage(sql_url, clock=clock, namespace="other") as other,
    ):
        for storage in (command, other):
            await storage.write_bytes("id", INLINE, subject="ann")
        await keep_ended_as_services(command)
        await command.revoke("ann")
        assert await ended(service) == []
        await service.purge()  # which says that it does
        await command.write_bytes("id", INLINE, subject="ann")
        for storage in (command, other):
            await keep_ended_as_services(storage)
            assert await storage.revoke("ann") == 1
        assert await reasons(service) == ["revoked"]
        assert await ended(other) == []


@each_database
async def test_a_session_under_two_names_is_replaced(sql_url: str) -> None:
    options: dict[str, Any] = {"keys": [NEW], "accept": [(None, None)], "keep_ended": KEPT}
    async with SqlSessionStorage(sql_url) as before, SqlSessionStorage(sql_url, **options) as after:
        info = await before.write_bytes("id", INLINE)
        assert await after.read_bytes("id") == INLINE
        assert await ended(after) == []
        old = await before.write_bytes("id", INLINE, subject="ann")
        assert await after.read_bytes("id") == INLINE
        assert old.key == info.key
        assert [(each.key, each.reason) for each in await ended(after)] == [(old.key, "replaced")]


@pytest.mark.parametrize(
    ("value", "error"), [(0, InvalidArgument), (-1.5, InvalidArgument), ("1", InvalidArgumentType)]
)
def test_no_duration_is_refused(value: Any, error: type[Exception]) -> None:
    for make in (
        lambda: SqlSessionStorage("sqlite://", keep_ended=value),
        lambda: SessionStorageMemory(keep_ended=value),
    ):
        with pytest.raises(error, match="keep_ended"):
            make()
    SessionStorageMemory(keep_ended=timedelta(days=90))


def test_a_record_shows_no_subject(clock: ManualClock) -> None:
    record = EndedSession("00", "ended", clock.now, clock.now, clock.now, "ann", {"address": "192.0.2.7"})
    assert "ann" not in repr(record)
    assert "192" not in repr(record)
    assert hash(record)
