"""A network that resets, closes, refuses, delays, drops, half-opens connections and swallows answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage

from ..sql.support import each_server, in_use, quiet
from .ledger import Ledger
from .load import Load
from .proxy import Proxy
from .rounds import LONG, connections, connections_ended

NAMES = [f"slot-{number}" for number in range(24)]
POOL = 4
OPERATION_TIMEOUT = 1.5
OPTIONS: dict[str, Any] = {
    "inline_limit": 16_384,
    "chunk_size": 16_384,
    "pool_size": POOL,
    "connect_timeout": 1,
    "operation_timeout": OPERATION_TIMEOUT,
}


async def resets(proxy: Proxy) -> None:
    for _ in range(4):
        proxy.cut()
        await asyncio.sleep(0.05)


async def closes(proxy: Proxy) -> None:
    for _ in range(4):
        proxy.close()
        await asyncio.sleep(0.05)


async def refuses(proxy: Proxy) -> None:
    proxy.refusing = True
    proxy.cut()
    await asyncio.sleep(0.3)


async def delays(proxy: Proxy) -> None:
    proxy.delay = 0.03
    await asyncio.sleep(0.6)


async def is_slow(proxy: Proxy) -> None:
    proxy.bandwidth = 300_000
    await asyncio.sleep(0.6)


async def drops_for_a_moment(proxy: Proxy) -> None:
    proxy.drop()
    await asyncio.sleep(0.1)


async def drops_for_long(proxy: Proxy) -> None:
    proxy.drop()
    await asyncio.sleep(2 * OPERATION_TIMEOUT)


async def half_opens(proxy: Proxy) -> None:
    proxy.drop(half_open=True)


async def swallows_answers_to_commit(proxy: Proxy) -> None:
    proxy.swallowing = "reset"
    await asyncio.sleep(0.4)


async def swallows_them_in_silence(proxy: Proxy) -> None:
    proxy.swallowing = "silence"
    await asyncio.sleep(0.4)


WEATHER = [
    resets,
    closes,
    refuses,
    delays,
    is_slow,
    drops_for_a_moment,
    drops_for_long,
    half_opens,
    swallows_answers_to_commit,
    swallows_them_in_silence,
]


def named(weather: Callable[[Proxy], Awaitable[None]]) -> str:
    return weather.__name__.replace("_", " ")


QUICK = (resets, swallows_answers_to_commit)
CASES = [pytest.param(weather, 1, id=named(weather)) for weather in QUICK]
CASES += [
    pytest.param(weather, LONG // 5 or 1, id=f"{named(weather)}, many", marks=pytest.mark.long)
    for weather in WEATHER
]


@each_server
@pytest.mark.parametrize(("weather", "rounds"), CASES)
@pytest.mark.timeout(900)
async def test_callers_get_their_result_or_an_error_and_the_storage_goes_on(
    sql_url: str, weather: Callable[[Proxy], Awaitable[None]], rounds: int, reports: Any
) -> None:
    report, ledger = reports(f"the network {named(weather)}", sql_url.partition(":")[0]), Ledger()
    async with Proxy.to(sql_url) as proxy:
        async with SqlSessionStorage(proxy.url, **OPTIONS) as storage:
            load = Load(storage, ledger, seed=rounds)
            load.start(NAMES)
            for _ in range(rounds):
                await load.until(100)
                await weather(proxy)
                proxy.heal()
                healed = time.monotonic()
                await load.until(1)
                report.recovery.append(time.monotonic() - healed)
                report.rounds += 1
            await load.until(100)
            await load.stop()
            await quiet(storage)
            assert in_use(storage) == 0
            assert await connections(sql_url) <= POOL
            if weather in (swallows_answers_to_commit, swallows_them_in_silence):
                assert proxy.swallowed > 0
        await connections_ended(sql_url)
        async with SqlSessionStorage(sql_url) as direct:
            await ledger.verify(direct)
    report.add(ledger)
    report.check()


@each_server
async def test_a_connection_that_falls_silent_on_its_way_back_to_the_pool(sql_url: str) -> None:
    async with Proxy.to(sql_url) as proxy:
        engine = create_async_engine(proxy.url)  # whose pool ends with a ROLLBACK what it gets back
        async with SqlSessionStorage(engine, operation_timeout=0.3) as storage, asyncio.timeout(10):
            await storage.write_bytes("id", b"old")
            event.listen(engine.sync_engine, "reset", lambda *_: proxy.drop(), once=True)
            await storage.write_bytes("id", b"new")
            proxy.heal()
            assert await storage.read_bytes("id") == b"new"
        await engine.dispose()
