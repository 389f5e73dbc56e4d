"""Too much at once: thousands of callers, an exhausted pool, a stalled event loop, closing under load."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sqlsessions import SqlSessionStorage, StorageUnavailable

from ..sql.support import each_database, holding, in_use, quiet
from .ledger import Ledger, State, payload
from .load import PATIENCE, Load
from .rounds import LONG, connections, connections_ended
from .rounds import rounds as few_or_many

NAMES = [f"slot-{number}" for number in range(24)]
LIMITS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384}


async def verified(url: str, ledger: Ledger) -> None:
    async with SqlSessionStorage(url, **LIMITS) as storage:
        await ledger.verify(storage)


@each_database
async def test_thousands_of_callers_at_once_are_all_answered(sql_url: str, reports: Any) -> None:
    report, ledger = reports("5,000 callers at once", sql_url.partition(":")[0]), Ledger()
    sizes = random.Random(1)

    async def caller(storage: SqlSessionStorage, name: str) -> None:
        data = payload(name, 1, 40_000 if sizes.random() < 0.02 else 100)
        ledger.begin(name, State(0, 1))
        await storage.write_bytes(f"{name}/0", data)
        ledger.end(name, "acknowledged")
        ledger.read(name, 0, await storage.read_bytes(f"{name}/0"))

    async with SqlSessionStorage(sql_url, pool_timeout=PATIENCE, **LIMITS) as storage:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(caller(storage, f"slot-{number}") for number in range(5_000)))
        await quiet(storage)
        assert in_use(storage) == 0
        await ledger.verify(storage)
    report.rounds = 1
    report.add(ledger)
    report.check()


@each_database
async def test_an_exhausted_pool_is_waited_for_or_an_error(sql_url: str, reports: Any) -> None:
    report, ledger = reports("the pool exhausted", sql_url.partition(":")[0]), Ledger()
    async with SqlSessionStorage(sql_url, pool_size=1, pool_timeout=0.2, **LIMITS) as storage:
        load = Load(storage, ledger)
        load.start(NAMES)
        for seconds in (0.05, 0.1, 0.6):
            await load.until(50)
            async with asyncio.timeout(PATIENCE):
                await _held(storage, seconds)
            freed = time.monotonic()
            await load.until(1)
            report.recovery.append(time.monotonic() - freed)
            report.rounds += 1
        await load.stop()
        await quiet(storage)
        assert in_use(storage) == 0
    await verified(sql_url, ledger)
    report.add(ledger)
    report.check()
    assert any("TimeoutError" in error for error in report.errors), report.errors


async def _held(storage: SqlSessionStorage, seconds: float) -> None:
    """Take the only connection for some time, however long it takes to get it."""
    held = False
    while not held:
        with suppress(PoolTimeout):  # others were first
            async with holding(storage, 1):
                held = True
                await asyncio.sleep(seconds)


@each_database
@few_or_many(2, LONG // 5)
@pytest.mark.timeout(300)
async def test_a_stalled_event_loop_loses_nothing(sql_url: str, rounds: int, reports: Any) -> None:
    report, ledger = reports("the event loop stalls", sql_url.partition(":")[0]), Ledger()
    stalls = random.Random(rounds)
    options = LIMITS | {"pool_timeout": 0.3, "connect_timeout": 0.3}
    async with SqlSessionStorage(sql_url, **options) as storage:
        load = Load(storage, ledger)
        load.start(NAMES)
        for _ in range(rounds):
            await load.until(50)
            await asyncio.sleep(stalls.random() / 50)
            time.sleep(0.4 + stalls.random() / 2)  # noqa: ASYNC251 (this is the fault)
            over = time.monotonic()
            await load.until(1)
            report.recovery.append(time.monotonic() - over)
            report.rounds += 1
        await load.stop()
        await quiet(storage)
        assert in_use(storage) == 0
    await verified(sql_url, ledger)
    report.add(ledger)
    report.check()


@each_database
@few_or_many(3)
@pytest.mark.timeout(600)
async def test_closing_under_load_ends_every_call(sql_url: str, rounds: int, reports: Any) -> None:
    report, ledger = reports("closing under load", sql_url.partition(":")[0]), Ledger()
    moments = random.Random(rounds)
    threads = threading.active_count()
    for number in range(rounds):
        storage = SqlSessionStorage(sql_url, **LIMITS)
        load = Load(storage, ledger, seed=number)
        load.start(NAMES)
        await load.until(50)
        await asyncio.sleep(moments.random() / 50)
        async with asyncio.timeout(PATIENCE):
            await storage.aclose()
        for name in NAMES[:3]:
            with pytest.raises(StorageUnavailable, match="closed"):
                await storage.read_bytes(f"{name}/0")
        async with asyncio.timeout(PATIENCE):
            await load.stop()
        await connections_ended(sql_url)
        await verified(sql_url, ledger)
        report.rounds += 1
    report.add(ledger)
    report.check()
    gc.collect()
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > threads or await connections(sql_url):
            await asyncio.sleep(0.01)
