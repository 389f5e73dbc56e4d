"""A lone read, which its caller carries out itself, keeps what is promised of every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest
import pytest_asyncio

from sqlsessions import SqlSessionStorage, StorageUnavailable
from sqlsessions.records import digest
from sqlsessions.sql.batching.operations import Read
from sqlsessions.sql.batching.queue import BatchQueue
from sqlsessions.testing._base import PATIENCE

from ..faults.proxy import Proxy
from .support import INLINE, each_network_driver, in_use


@pytest_asyncio.fixture
async def proxy(sql_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.to(sql_url) as proxy:
        yield proxy


@each_network_driver
async def test_it_is_tried_again_until_the_server_is_back(proxy: Proxy) -> None:
    async with SqlSessionStorage(proxy.url, retry_for=PATIENCE) as storage:
        await storage.write_bytes("id", INLINE)
        proxy.refusing = True
        proxy.cut()
        reading = asyncio.create_task(storage.read_bytes("id"))
        await asyncio.sleep(0.1)
        assert not reading.done()
        proxy.refusing = False
        assert await reading == INLINE
        assert await storage.read_bytes("id") == INLINE


@each_network_driver
async def test_closing_waits_for_one_that_is_tried_again(proxy: Proxy) -> None:
    storage = SqlSessionStorage(proxy.url, retry_for=1.0)
    await storage.write_bytes("id", INLINE)
    proxy.refusing = True
    proxy.cut()
    reading = asyncio.create_task(storage.read_bytes("id"))
    await asyncio.sleep(0.05)
    await storage.aclose()
    with pytest.raises(StorageUnavailable):
        await reading
    assert storage._database.engines.states() == []
    assert not proxy.connections


@each_network_driver
async def test_one_that_meets_silence_is_not_given_its_time_twice(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlSessionStorage(proxy.url, retry_for=0, operation_timeout=1.0) as storage:
        await asyncio.gather(*(storage.write_bytes(f"id {number}", INLINE) for number in range(9)))
        assert await storage.read_bytes("id 0") == INLINE
        driver = storage._repository._executor._driver
        checkout = Mock(wraps=driver.checkout)
        monkeypatch.setattr(driver, "checkout", checkout)
        proxy.drop(half_open=True)
        with pytest.raises(StorageUnavailable):
            await storage.read_bytes("id 0")
        checkout.assert_called_once()
        proxy.cut()
        proxy.heal()
        assert await storage.read_bytes("id 0") == INLINE
        assert in_use(storage) == 0


async def test_what_waits_takes_the_place_of_one_that_has_ended() -> None:
    """Although another batch is under way, which may take as long as it likes."""
    stuck, alone, ran = asyncio.Event(), asyncio.Event(), list[int]()

    async def run(batch: list[Read]) -> None:
        ran.append(len(batch))
        if len(ran) == 1:
            await stuck.wait()
        for read in batch:
            read.future.set_result(None)

    async def run_alone(_read: Read) -> None:
        await alone.wait()

    queue = BatchQueue[Read](
        run,
        max_concurrent_batches=2,
        ordered=False,
        spawn=lambda work: asyncio.create_task(work()),
        expired=lambda _: TimeoutError(),
        alone=run_alone,
    )

    async def submit() -> asyncio.Task[None]:
        task = asyncio.create_task(queue.submit(Read(digest("id"), "all")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    first = await submit()
    second = await submit()
    waiting = [await submit() for _ in range(3)]
    alone.set()
    await first
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*waiting)
    assert not second.done()
    stuck.set()
    await second
