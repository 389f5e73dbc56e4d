"""kill -9 of the service under full write load, and again, on the same database."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import SqlSessionStorage
from sqlsessions.testing import ManualClock

from ..sql.support import chunk_rows, kind, purge_in_time, query
from .ledger import Ledger
from .rounds import connections_ended
from .rounds import rounds as few_or_many
from .worker import Service

NAMES = [f"slot-{number}" for number in range(32)]
LIMITS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384}


@pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
@few_or_many(2)
@pytest.mark.timeout(900)
async def test_nothing_acknowledged_is_lost_when_the_service_is_killed(
    sql_url: str, rounds: int, reports: Any
) -> None:
    report, ledger = reports("kill -9 of the service", sql_url.partition(":")[0]), Ledger()
    moment = random.Random(rounds)
    for number in range(rounds):
        began = time.monotonic()
        async with Service.started(sql_url, ledger, NAMES, seed=number, **LIMITS) as service:
            await service.until(1)
            report.recovery.append(service.last - began)
            await service.until(moment.randrange(100, 400))
            await asyncio.sleep(moment.random() / 50)
            await service.killed()
        await connections_ended(sql_url)
        async with SqlSessionStorage(sql_url, **LIMITS) as storage:
            await ledger.verify(storage)
        if kind(sql_url) == "sqlite":
            check_integrity(sql_url)
        report.rounds += 1
    report.add(ledger)
    report.check()
    await check_orphans_go(sql_url)


def check_integrity(url: str) -> None:
    with closing(sqlite3.connect(str(make_url(url).database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def check_orphans_go(url: str) -> None:
    """What the killed had staged goes by purge, after its grace; what sessions point at stays."""
    clock = ManualClock()
    clock.advance(time.time() - clock())
    async with SqlSessionStorage(url, clock=clock, **LIMITS) as storage:
        clock.advance(25 * 3600)
        await purge_in_time(storage, url)
        pointed_at = {
            (bytes.fromhex(info.key), info.version)
            async for info in storage.sessions()
            if info.size > LIMITS["inline_limit"]
        }
    left = await query(url, "SELECT DISTINCT id, version FROM session_chunks WHERE seq >= 0")
    assert {(bytes(id), version) for id, version in left} == pointed_at
    # A purge may have dated a set just when a session came to point at it.
    dated = {version for version, seq in await chunk_rows(url) if seq < 0}
    assert dated <= {version for _, version in pointed_at}
