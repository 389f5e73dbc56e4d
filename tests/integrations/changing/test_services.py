"""Parallel requests that change the same keys lose nothing, in any framework and in several processes."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sqlsessions import SqlSessionStorage
from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import Browser, SpyStorage
from sqlsessions.testing._base import PATIENCE

from . import FRAMEWORKS, service_of
from .__main__ import burst

MANY = 30
SERIALIZING = [name for name in FRAMEWORKS if "django" not in name]

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


@pytest.fixture
async def closed(storage: SpyStorage) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(run, storage.aclose())


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_parallel_changes_lose_nothing(storage: SpyStorage, framework: str) -> None:
    """Two services over one storage stand for two processes; Django's settings allow for one."""
    async with AsyncExitStack() as stack:
        number = 1 if "django" in framework else 2
        services = [await stack.enter_async_context(service_of(framework)(storage)) for _ in range(number)]
        first = Browser(services[0], "session")
        await first.post("/begin")
        async with asyncio.timeout(PATIENCE):
            visits = await burst(services, first.has_id(), "item", MANY)
        assert sorted(visits) == list(range(1, MANY + 1))
        data = await first.data()
    assert data.keys() == {"begun", "visits", "cart"}
    assert data["visits"] == MANY
    assert sorted(data["cart"]) == sorted(f"item {number}" for number in range(MANY))


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_two_processes_lose_nothing(url: str, framework: str) -> None:
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(SqlSessionStorage(url))
        service = await stack.enter_async_context(service_of("starlette")(storage))
        if "django" in framework:  # whose login is within the data
            service = await stack.enter_async_context(service_of("async_django")(storage))
        first = Browser(service, "session")
        await first.post("/begin")
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.integrations.changing", framework, url, first.has_id(), name),
                stdin=PIPE,
                stdout=PIPE,
            )
            for name in ("one", "two")
        ]
        visits: list[int] = []
        async with asyncio.timeout(3 * PATIENCE):  # for each to import its framework
            for worker in workers:
                assert worker.stdout is not None
                assert await worker.stdout.readline() == b"ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"%d\n" % (MANY // 2))
            for worker in workers:
                output, _ = await worker.communicate()
                assert worker.returncode == 0
                visits += json.loads(output)
        assert sorted(visits) == list(range(1, MANY + 1))
        data = await first.data()
    assert data["visits"] == MANY
    expected = {f"{name} {number}" for name in ("one", "two") for number in range(MANY // 2)}
    assert len(data["cart"]) == MANY
    assert set(data["cart"]) == expected


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("framework", SERIALIZING)
async def test_serialized_requests_see_each_other(storage: SpyStorage, framework: str) -> None:
    async with service_of(framework)(storage, serialize=True) as service:
        first = Browser(service, "session")
        await first.post("/begin")
        browsers = [first.other(first.has_id()) for _ in range(MANY)]
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(browser.post("/plain") for browser in browsers))
        assert sorted(answer.json() for answer in answers) == list(range(1, MANY + 1))
        assert (await first.data())["visits"] == MANY
