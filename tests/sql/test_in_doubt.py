"""What became of something lost is told truly, also where it ends late or took long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from ssl import SSLError
from typing import Any

import pymysql
import pytest

from sqlsessions import SessionInfo, SqlSessionStorage, StorageUnavailable
from sqlsessions.channels import ByteWriteChannel
from sqlsessions.records import digest
from sqlsessions.sql import repository
from sqlsessions.sql.dialects import DIALECTS, ErrorKind
from sqlsessions.sql.statements import in_doubt
from sqlsessions.testing import ManualClock

from .support import each_server

ENDS: dict[str, Callable[[SqlSessionStorage, SessionInfo], Any]] = {
    "rotate": lambda storage, _: storage.rotate("id", "new"),
    "revoke": lambda storage, _: storage.revoke("ann"),
    "invalidate_key": lambda storage, info: storage.invalidate_key(info.key),
}


@each_server
@pytest.mark.parametrize("name", ENDS)
async def test_a_commit_that_comes_to_its_end_while_it_is_done_again(
    sql_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    async with SqlSessionStorage(sql_url, on_invalidated=told.append, on_rotated=told.append) as storage:
        info = await storage.write_bytes("id", b"data", subject="ann")
        late_commit(storage, monkeypatch)
        result = await ENDS[name](storage, info)
        assert bool(result)
        assert len(told) == 1
        assert await storage.info("id") is None
        assert (await storage.info("new") is None) == (name != "rotate")


@each_server
async def test_a_revocation_whose_commit_comes_late_goes_on_with_the_rest(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "PAGE", 5)
    async with SqlSessionStorage(sql_url) as storage:
        for number in range(8):
            await storage.write_bytes(f"id {number}", b"data", subject="ann")
        late_commit(storage, monkeypatch)
        assert await storage.revoke("ann") == 8
        assert [info async for info in storage.sessions("ann")] == []


def late_commit(storage: SqlSessionStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first transaction lose its connection, and come to its end while it is done again."""
    database, in_transaction = storage._database, storage._database.in_transaction
    lost: list[Any] = []

    async def first_lost(connection: Any, work: Any, **options: Any) -> Any:
        if not lost:
            lost.append(await storage.engine.connect())
            for statement in database.dialect.begin:
                await lost[0].exec_driver_sql(statement)
            await work(lost[0])
            raise ConnectionResetError
        if lost[0].closed:
            return await in_transaction(connection, work, **options)
        again = asyncio.create_task(in_transaction(connection, work, **options))
        await asyncio.sleep(0.05)  # it waits for the locks
        await lost[0].exec_driver_sql("COMMIT")
        await lost[0].close()
        return await again

    monkeypatch.setattr(database, "in_transaction", first_lost)


@each_server
@pytest.mark.parametrize("seconds", [30, 120])
async def test_a_small_write_that_a_slow_large_one_replaced_is_not_done_again(
    sql_url: str, seconds: float
) -> None:
    clock = ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, inline_limit=10, chunk_size=10) as storage:
        small: list[SessionInfo] = []

        async def slow(channel: ByteWriteChannel) -> None:
            await channel.write(bytes(100))
            clock.advance(seconds)
            small.append(await storage.write_bytes("id", b"small"))

        large = await storage.write("id", slow)
        assert large.version > small[0].version
        await storage.purge()
        with pytest.raises(StorageUnavailable, match="unknown"):
            await storage._database.run(
                partial(in_doubt.written, digest=digest("id"), version=small[0].version)
            )


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_what_keeps_from_connecting_is_tried_again(kind: str) -> None:
    dialect = DIALECTS[kind]
    assert dialect.error_kind(OSError("Multiple exceptions: one for each address")) is ErrorKind.LOST
    assert dialect.error_kind(OSError(113, "No route to host")) is ErrorKind.LOST
    assert dialect.error_kind(SSLError("certificate verify failed")) is ErrorKind.OTHER


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT", ErrorKind.RETRY),
        ('Got error 6 "No such device or address" during COMMIT', ErrorKind.LOST),
    ],
)
def test_a_conflict_at_commit_is_no_doubt(said: str, meant: ErrorKind) -> None:
    assert DIALECTS["mysql"].error_kind(pymysql.OperationalError(1180, said)) is meant


@each_server
async def test_a_bug_while_resolving_reaches_the_callers(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlSessionStorage(sql_url) as storage, asyncio.timeout(10):
        await storage.write_bytes("id", b"old")

        async def cut(*_: Any) -> None:
            raise ConnectionResetError

        async def broken(*_: Any) -> bool:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patched:
            patched.setattr(storage._repository._executor._driver, "write", cut)
            patched.setattr(in_doubt, "look", broken)
            with pytest.raises(RuntimeError, match="a bug"):
                await storage.write_bytes("id", b"new")
        assert await storage.read_bytes("id") == b"old"
        await storage.write_bytes("id", b"new")
        assert await storage.read_bytes("id") == b"new"
