"""Changes that wait together go out together, and each caller is told what became of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import DEFAULT, SessionConflict, SessionInfo, SqlSessionStorage
from sqlsessions.records import digest
from sqlsessions.sql.batching.executor import BatchExecutor
from sqlsessions.sql.batching.operations import Operation, Touch
from sqlsessions.sql.batching.queue import MAX_BATCH
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE

from .support import (
    INLINE,
    LARGE,
    each_database_and_mysql,
    each_server_and_mysql,
    each_way,
    holding,
    mariadb,
    packets,
    statements,
    verbs,
)


@mariadb
async def test_changes_that_wait_together_are_one_packet(
    storage: SqlSessionStorage, clock: ManualClock
) -> None:
    kinds = ("touch", "match", "end")
    versions = {}
    for id in (f"{kind} {number}" for number in range(5) for kind in kinds):
        versions[id] = (await storage.write_bytes(id, INLINE, ttl=1000)).version
    clock.advance(100)
    async with packets() as sent:
        async with holding(storage, 1):
            calls: list[Awaitable[object]] = []
            for id, version in versions.items():
                match id.split()[0]:
                    case "touch":  # as if they had been read
                        calls.append(storage._repository._change(Touch(digest(id), DEFAULT, None)))
                    case "match":
                        calls.append(storage.write_bytes(id, b"", if_match=version))
                    case "end":
                        calls.append(storage.invalidate(id))
            waiting = [asyncio.ensure_future(call) for call in calls]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    [packet] = sent
    assert verbs(packet).count("COMMIT") == 1
    text = " ".join(packet)  # whose statements lock a session each
    places = [text.index(f"x'{each.hex()}'") for each in sorted(map(digest, versions))]
    assert places == sorted(places)


@each_database_and_mysql
async def test_writes_that_lose_together_are_told_without_another_read(
    storage: SqlSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [await storage.write_bytes(f"id {number}", INLINE) for number in range(4)]
    stale = [info.version for info in infos]
    await storage.write_bytes("id 1", b"newer")
    await storage.write_bytes("id 2", LARGE)
    monkeypatch.delattr(BatchExecutor, "read")
    async with holding(storage, 1):
        writes = (
            storage.write_bytes(f"id {number}", b"mine", if_match=version)
            for number, version in enumerate(stale)
        )
        waiting = [asyncio.create_task(write) for write in (*writes, storage.invalidate("id 3"))]
        await asyncio.sleep(0)
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in found] == [
        SessionInfo,
        SessionConflict,
        SessionConflict,
        SessionInfo,
        type(None),
    ]
    monkeypatch.undo()
    assert [await storage.read_bytes(f"id {number}") for number in range(3)] == [b"mine", b"newer", LARGE]


@each_way
async def test_a_write_of_a_session_that_another_ended_makes_it_anew(
    storage: SqlSessionStorage, sql_url: str, clock: ManualClock
) -> None:
    for id in ("ended", "here", "touched", "matched"):
        matched = await storage.write_bytes(id, INLINE, ttl=1000, subject="ann")
    clock.advance(100)
    async with SqlSessionStorage(sql_url, clock=clock) as other:
        await other.invalidate("ended")
    async with holding(storage, 1):
        calls: list[Coroutine[Any, Any, Any]] = [
            storage.write_bytes("matched", b"newer", if_match=matched.version),
            storage.write_bytes("ended", b"first"),
            storage.write_bytes("here", b"newer"),
            storage.write_bytes("ended", b"second", ttl=500),
            storage.touch("touched"),
        ]
        waiting = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
    _, first, here, second, _ = await asyncio.gather(*waiting)
    assert (first.subject, first.created_at) == (None, first.updated_at)
    assert here.subject == "ann"
    assert here.created_at < here.updated_at
    assert second.version > first.version
    assert second.created_at == first.created_at
    assert second.expires_at == second.created_at + timedelta(seconds=500)
    assert await storage.info("ended") == second
    assert [await storage.read_bytes(id) for id in ("ended", "here", "matched")] == [
        b"second",
        b"newer",
        b"newer",
    ]


@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite"], indirect=True)
async def test_changes_that_wait_together_are_one_transaction_over_an_engine_with_events(
    sql_url: str,
) -> None:
    engine, seen = create_async_engine(sql_url), Counter[str]()

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen[statement.split(maxsplit=1)[0]] += 1

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with SqlSessionStorage(engine) as storage:
        matched = await storage.write_bytes("matched", INLINE)
        first = asyncio.create_task(storage.write_bytes("first", INLINE))
        await asyncio.sleep(0)
        seen.clear()
        new = (storage.write_bytes(f"new {number}", INLINE) for number in range(5))
        await asyncio.gather(first, storage.write_bytes("matched", b"", if_match=matched.version), *new)
    await engine.dispose()
    assert seen["COMMIT"] <= 1  # as the first may have gone ahead
    assert seen["INSERT"] <= 2


@each_server_and_mysql
async def test_a_part_of_a_batch_that_does_not_end_holds_up_no_others(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    async with SqlSessionStorage(sql_url) as storage:
        matched = await storage.write_bytes("matched", INLINE)
        driver = storage._repository._executor._driver
        carry_out = driver.write

        async def write(connection: Any, changes: Sequence[Operation]) -> list[Any]:
            if any(change.digest == digest("new") for change in changes):
                await go_on.wait()
            return await carry_out(connection, changes)

        monkeypatch.setattr(driver, "write", write)
        waiting = [
            asyncio.create_task(storage.write_bytes("matched", b"newer", if_match=matched.version)),
            asyncio.create_task(storage.write_bytes("new", INLINE)),
        ]
        try:
            async with asyncio.timeout(PATIENCE):
                while await storage.read_bytes("matched") != b"newer":
                    await asyncio.sleep(0.01)
                await asyncio.gather(*(storage.write_bytes(f"other {n}", INLINE) for n in range(5)))
            assert not waiting[1].done()
        finally:
            go_on.set()
        await asyncio.gather(*waiting)


@mariadb
async def test_writes_that_wait_together_are_one_statement_that_commits_by_itself(
    storage: SqlSessionStorage,
) -> None:
    async with statements(storage) as seen:
        async with holding(storage, 1):
            writes = (storage.write_bytes(f"id {number}", INLINE) for number in range(2 * MAX_BATCH))
            waiting = [asyncio.create_task(write) for write in writes]
            await asyncio.sleep(0)
        infos = await asyncio.gather(*waiting)
    assert verbs(seen) == ["INSERT"] * 2  # batches
    assert [await storage.info(f"id {number}") for number in range(2 * MAX_BATCH)] == infos


@pytest.mark.parametrize("sql_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)
async def test_touches_that_wait_together_are_done_although_the_sessions_changed(
    sql_url: str, clock: ManualClock
) -> None:
    engine = create_async_engine(
        sql_url, pool_size=1, max_overflow=0
    )  # whose batches lock before they decide
    async with SqlSessionStorage(engine, clock=clock) as storage:
        await _touches_of_changed_sessions(storage, clock)
    await engine.dispose()


async def _touches_of_changed_sessions(storage: SqlSessionStorage, clock: ManualClock) -> None:
    await storage.write_bytes("ended", INLINE, ttl=1000)
    ids = ["id 0", "id 1", "id 2", "ended"]
    for id in ids:
        await storage.write_bytes(id, INLINE, ttl=1000)
    read = {id: await storage._repository.record(digest(id)) for id in ids}
    clock.advance(100)
    for id in ids:
        await storage.write_bytes(id, b"new")
    await storage.invalidate("ended")
    async with holding(storage, 1):
        waiting = [
            asyncio.create_task(storage._repository.touch(digest(id), record, 2_000_000_000))
            for id, record in read.items()
            if record is not None
        ]
        await asyncio.sleep(0)
    *touched, ended = await asyncio.gather(*waiting)
    assert ended is None
    assert await storage.load("ended") is None
    for id, record in zip(ids, touched, strict=False):
        snapshot = await storage.load(id)
        assert record is not None
        assert snapshot is not None
        assert (snapshot.data, snapshot.info) == (b"new", record.info(digest(id)))
        assert snapshot.info.expires_at == snapshot.info.updated_at + timedelta(seconds=2000)


@pytest.mark.parametrize("sql_url", ["MySQL+asyncmy", "MySQL+aiomysql"], indirect=True)
async def test_writes_that_wait_together_are_one_transaction_on_mysql(storage: SqlSessionStorage) -> None:
    ids = [f"id {number}" for number in range(10)]
    for id in ids:
        await storage.write_bytes(id, INLINE, subject="ann")
    async with packets() as sent:
        async with holding(storage, 1):
            waiting = [asyncio.create_task(storage.write_bytes(id, id.encode())) for id in ids]
            await asyncio.sleep(0)
        infos = await asyncio.gather(*waiting)
    assert [verbs(packet) for packet in sent] == [["START", "SELECT"], ["INSERT", "COMMIT"]]
    for id, info in zip(ids, infos, strict=True):
        snapshot = await storage.load(id)
        assert snapshot is not None
        assert (snapshot.data, snapshot.info) == (id.encode(), info)


@pytest.mark.parametrize("sql_url", ["MySQL+asyncmy", "MySQL+aiomysql"], indirect=True)
async def test_a_lone_write_of_a_session_that_was_seen_is_one_round_trip_on_mysql(
    storage: SqlSessionStorage,
) -> None:
    await storage.write_bytes("id", INLINE, subject="ann")
    async with packets() as sent:
        info = await storage.write_bytes("id", b"new")
    assert [verbs(packet) for packet in sent] == [["START", "UPDATE", "SELECT", "COMMIT"]]
    assert (info.subject, info.size) == ("ann", 3)
    snapshot = await storage.load("id")
    assert snapshot is not None
    assert (snapshot.data, snapshot.info) == (b"new", info)
