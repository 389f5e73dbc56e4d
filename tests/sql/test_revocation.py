"""A revocation is a point in time: what was moved before, during or after it does not escape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage, StorageUnavailable, new_session_id
from sqlsessions.sql.ending import Ending
from sqlsessions.sql.statements import chunks
from sqlsessions.testing._base import PATIENCE

from ..databases import DATABASES, ON_MYSQL
from .buses import until
from .support import NETWORK, keep_rotating, kind, query

each_driver = pytest.mark.parametrize("sql_url", DATABASES | ON_MYSQL, indirect=True)
each_server = pytest.mark.parametrize("sql_url", [*NETWORK, *ON_MYSQL], indirect=True)
ROUNDS = 30
WAITING = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SHOW GLOBAL STATUS WHERE Variable_name = 'Innodb_row_lock_current_waits' AND Value > 0",
}
"""Gives a row if a transaction waits for a lock."""


@each_driver
@pytest.mark.timeout(120)
async def test_no_session_escapes_by_changing_its_id(sql_url: str) -> None:
    escaped = 0
    async with SqlSessionStorage(sql_url) as service, SqlSessionStorage(sql_url) as other:
        for number in range(ROUNDS):
            subject = f"user {number}"
            ids = [new_session_id() for _ in range(4)]
            for id in ids:
                await service.write_bytes(id, b"data", subject=subject)
            clients = []
            for id in ids[:2]:
                started = asyncio.Event()
                clients.append(asyncio.create_task(keep_rotating(other, id, started)))
                await started.wait()
            async with asyncio.timeout(PATIENCE):
                await service.revoke(subject)
                # Rotated on and on, a session that escaped would never end.
                _, going = await asyncio.wait(clients, timeout=2)
            for client in going:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            escaped += len(going)
            assert all(not client.exception() for client in clients if not client.cancelled())
    assert escaped == 0


class Retries:
    """Notes why work was tried again."""

    def __init__(self, *storages: SqlSessionStorage) -> None:
        self.kinds: list[str] = []
        for storage in storages:
            storage._database.observer = self

    def batch(self, size: int, *, writes: bool) -> None:
        pass

    def retry(self, kind: str) -> None:
        self.kinds.append(kind)


@asynccontextmanager
async def rotation_under_way(
    storage: SqlSessionStorage, url: str, monkeypatch: pytest.MonkeyPatch, *, forgotten: bool = False
) -> AsyncIterator[None]:
    """A session has locked rows to get another id, and gets it once something waits for that; it may leave no note."""
    leave, locked, waited_for = chunks.leave_forwarding, asyncio.Event(), asyncio.Event()

    async def leave_late(*arguments: Any) -> None:
        locked.set()
        await waited_for.wait()
        if not forgotten:
            await leave(*arguments)

    async def something_waits() -> bool:
        return bool(await query(url, WAITING[kind(url)]))

    async def let_it_go_on() -> None:
        try:
            await until(something_waits)
        finally:
            waited_for.set()

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "leave_forwarding", leave_late)
        async with asyncio.TaskGroup() as group:
            group.create_task(storage.rotate("id 0", "new"))
            await locked.wait()
            group.create_task(let_it_go_on())
            yield


@each_server
@pytest.mark.parametrize("forgotten", [False, True], ids=["", "forgotten"])
async def test_a_rotation_under_way_is_waited_for_without_a_deadlock(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, *, forgotten: bool
) -> None:
    async with SqlSessionStorage(sql_url) as service, SqlSessionStorage(sql_url) as other:
        for number in range(4):
            await service.write_bytes(f"id {number}", b"data", subject="ann")
        retries = Retries(service, other)
        async with rotation_under_way(other, sql_url, monkeypatch, forgotten=forgotten):
            assert await service.revoke("ann") == 4
        assert retries.kinds == []
        assert await service.info("new") is None


@each_server
async def test_a_rotation_under_way_is_no_conflict_of_the_callers_transaction(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_async_engine(sql_url)
    async with SqlSessionStorage(sql_url) as service, SqlSessionStorage(sql_url) as other:
        for number in range(4):
            await service.write_bytes(f"id {number}", b"data", subject="ann")
        retries = Retries(service, other)
        async with rotation_under_way(other, sql_url, monkeypatch), engine.begin() as connection:
            assert await service.revoke("ann", connection=connection) == 4
        assert retries.kinds == []
        assert await service.info("new") is None
    await engine.dispose()


@pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
@pytest.mark.timeout(120)
async def test_of_all_none_escapes_by_changing_its_id(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as service, SqlSessionStorage(sql_url) as other:
        for _ in range(10):
            clients, started = [], [asyncio.Event() for _ in range(4)]
            for event in started:
                await service.write_bytes(id := new_session_id(), b"data")
                clients.append(asyncio.create_task(keep_rotating(other, id, event)))
                await event.wait()
            async with asyncio.timeout(PATIENCE):
                await service.revoke_all()
                await asyncio.gather(*clients)  # rotated on and on, a session that escaped would never end


@each_driver
async def test_all_of_a_namespace_are_ended_and_no_others(sql_url: str) -> None:
    async with (
        SqlSessionStorage(sql_url, namespace="shop") as shop,
        SqlSessionStorage(sql_url) as others,
    ):
        await shop.write_bytes("id", b"data")
        await shop.rotate("id", "new")
        await others.write_bytes("id", b"data")
        await others.rotate("id", "new")
        assert await shop.revoke_all() == 1
        assert await others.info("new") is not None
        assert await shop.successor("new") is None


@each_driver
async def test_the_one_to_keep_is_kept(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        for number in range(5):
            await storage.write_bytes(f"id {number}", b"data", subject="ann")
        await storage.write_bytes("bob's", b"data", subject="ann ")
        assert await storage.revoke("ann", keep="id 3") == 4
        assert [info.key async for info in storage.sessions("ann")] == [(await storage.info("id 3")).key]  # type: ignore[union-attr]
        assert await storage.info("bob's") is not None


@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite"], indirect=True)
async def test_what_ended_before_a_failure_is_reported(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    async with SqlSessionStorage(sql_url, on_invalidated=lambda event: ended.append(event.key)) as storage:
        async with asyncio.TaskGroup() as group:
            for number in range(400):
                group.create_task(storage.write_bytes(f"id {number}", b"data"))
        end_page, pages = Ending._end_page, iter(range(2))

        async def failing(ending: Ending, *arguments: Any) -> bool:
            if next(pages) == 1:
                raise StorageUnavailable("for the test")
            return await end_page(ending, *arguments)

        monkeypatch.setattr(Ending, "_end_page", failing)
        with pytest.raises(StorageUnavailable):
            await storage.revoke_all()
        left = {info.key async for info in storage.sessions()}
    assert 0 < len(left) < 400
    assert len(ended) == 400 - len(left)
