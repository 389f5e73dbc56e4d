"""Operations that wait for a connection, or for others that change the same session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SessionConflict, SessionInfo, SqlSessionStorage, StorageUnavailable
from sqlsessions.records import Record, digest
from sqlsessions.sql.dialects import base
from sqlsessions.sql.engine.pool import Checkout
from sqlsessions.storage import Default, Keep
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE

from .support import INLINE, LARGE, TINY, each_database, each_server, postgresql

Call = Callable[[SqlSessionStorage, SessionInfo], Coroutine[Any, Any, Any]]

# A call, the data there before, and which of the connections to write with comes late.
CALLS: dict[str, tuple[Call, bytes, int]] = {
    "write": (lambda s, info: s.write_bytes("id", b"late", if_match=info.version), INLINE, 1),
    "write over large": (lambda s, info: s.write_bytes("id", b"late", if_match=info.version), LARGE, 2),
    "touch": (lambda s, _: s.touch("id"), INLINE, 1),
    "touch with a ttl": (lambda s, _: s.touch("id", ttl=1000), LARGE, 1),
}


@each_database
@pytest.mark.parametrize("name", CALLS)
async def test_what_waits_does_not_revive_a_session_that_expires_meanwhile(
    sql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, before, late = CALLS[name]
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        info = await storage.write_bytes("id", before, ttl=100)
        clock.advance(50)
        writing = 0
        enter = Checkout.__aenter__

        async def entered(checkout: Checkout) -> Any:
            nonlocal writing
            writing += checkout._writes
            if checkout._writes and writing == late:
                clock.advance(51)
            return await enter(checkout)

        monkeypatch.setattr(Checkout, "__aenter__", entered)
        [outcome] = await asyncio.gather(call(storage, info), return_exceptions=True)
        assert outcome is None or isinstance(outcome, SessionConflict)
        assert writing >= late
        assert await storage.load("id") is None


@each_database
async def test_a_touch_with_a_ttl_counts_although_others_write_all_the_time(
    sql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlSessionStorage(sql_url, clock=clock) as storage:
        await storage.write_bytes("id", INLINE, ttl=100)
        touch = storage._repository.touch

        async def overtaken(digest: bytes, old: Record, ttl: int | Default | Keep | None) -> Record | None:
            await storage.write_bytes("id", INLINE)
            return await touch(digest, old, ttl)

        monkeypatch.setattr(storage._repository, "touch", overtaken)
        info = await storage.touch("id", ttl=1000)
        assert info is not None
        assert info.expires_at is not None
        assert info.expires_at - info.created_at == timedelta(seconds=1000)
        assert await storage.info("id") == info


@asynccontextmanager
async def locking(url: str, *ids: str) -> AsyncIterator[None]:
    """Have the rows of sessions locked by a transaction of somebody else's."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for id in ids:
            wanted = text("SELECT id FROM sessions WHERE id = :id FOR UPDATE")
            assert (await connection.execute(wanted, {"id": digest(id)})).all()
        yield
    await engine.dispose()


@each_server
async def test_others_go_on_while_somebody_elses_transaction_has_locked_rows(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LOCK_WAIT", 0.1)
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        ids = [f"id {number}" for number in range(60)]
        infos = [await storage.write_bytes(id, INLINE) for id in ids]
        locked = {ids[5], ids[25], ids[45]}

        def calls(id: str, info: SessionInfo) -> list[Coroutine[Any, Any, Any]]:
            match ids.index(id) % 3:
                case 0:
                    return [storage.write_bytes(id, b"new"), storage.write_bytes(id, b"newest")]
                case 1:
                    return [storage.write_bytes(id, b"newest", if_match=info.version)]
            return [storage.touch(id, ttl=5), storage.invalidate(id)]

        async with locking(sql_url, *locked), asyncio.timeout(PATIENCE):
            tasks: dict[str, list[asyncio.Task[Any]]] = {
                id: [asyncio.create_task(call) for call in calls(id, info)]
                for id, info in zip(ids, infos, strict=True)
            }
            await asyncio.gather(*(task for id in ids if id not in locked for task in tasks[id]))
            await asyncio.gather(*(storage.write_bytes(f"more {number}", INLINE) for number in range(40)))
            assert not any(task.done() for id in locked for task in tasks[id])
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(task for id in locked for task in tasks[id]))
        for number, id in enumerate(ids):
            snapshot = await storage.load(id)
            assert (snapshot and snapshot.data) == (None if number % 3 == 2 else b"newest")


@postgresql
async def test_a_row_that_stays_locked_fails_its_own_callers_only(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "LOCK_WAIT", 0.05)
    async with SqlSessionStorage(sql_url, operation_timeout=1.5, retry_for=0, **TINY) as storage:
        await storage.write_bytes("id", INLINE)
        async with locking(sql_url, "id"), asyncio.timeout(PATIENCE):
            calls = (
                storage.write_bytes("id", b"late"),
                storage.invalidate("id"),
                storage.write_bytes("x", b"1"),
            )
            *failed, other = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(other, SessionInfo)
        assert [type(error) for error in failed] == [StorageUnavailable] * 2
        assert "another transaction has locked" in str(failed[0])
        assert await storage.read_bytes("id") == INLINE


@each_server
async def test_closing_waits_for_all_parts_of_a_batch(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those that only learn after its beginning that a row is locked."""
    monkeypatch.setattr(base, "LOCK_WAIT", 0.3)
    storage = SqlSessionStorage(sql_url, **TINY)
    for id in "abcd":
        await storage.write_bytes(id, INLINE)
    async with locking(sql_url, "a"), asyncio.timeout(PATIENCE):
        calls = [
            asyncio.create_task(call)
            for call in (
                storage.write_bytes("a", b"new"),
                storage.invalidate("b"),
                storage.write_bytes("c", b"new"),
                storage.invalidate("d"),
            )
        ]
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(storage.aclose())
        await asyncio.gather(*calls[1:])
    await asyncio.gather(calls[0], closing)
