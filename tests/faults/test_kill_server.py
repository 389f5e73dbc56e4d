"""kill -9 of the database server under load; the same storage goes on by itself when it is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage, schema

from ..sql.support import in_use, quiet
from .ledger import Ledger
from .load import Load
from .rounds import LONG
from .rounds import rounds as few_or_many
from .servers.mariadb import mariadb_server
from .servers.mysql import mysql_server
from .servers.postgres import postgres_server

NAMES = [f"slot-{number}" for number in range(24)]
LIMITS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384}
SERVERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "postgresql+asyncpg": postgres_server,
    "mysql+asyncmy": mariadb_server,
    "MySQL+asyncmy": mysql_server,
}


@pytest.mark.parametrize("driver", SERVERS)
@few_or_many(1, LONG)
@pytest.mark.timeout(1200)
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    driver: str, rounds: int, reports: Any
) -> None:
    report, ledger = reports("kill -9 of the server", driver), Ledger()
    moments = random.Random(rounds)
    with SERVERS[driver]() as server:
        url = driver.lower() + "://" + server.create_database().partition("://")[2]
        await schema.upgrade(url)
        async with SqlSessionStorage(url, pool_timeout=5, **LIMITS) as storage:
            for number in range(rounds):
                load = Load(storage, ledger, seed=number)
                load.start(NAMES)
                await load.until(100)
                await asyncio.sleep(moments.random() / 20)
                server.kill()
                await asyncio.sleep(moments.random() / 2)
                await asyncio.to_thread(server.start)
                back = time.monotonic()
                await load.until(1)
                report.recovery.append(time.monotonic() - back)
                await load.stop()
                await quiet(storage)
                assert in_use(storage) == 0
                await ledger.verify(storage)
                report.rounds += 1
    report.add(ledger)
    report.check()
