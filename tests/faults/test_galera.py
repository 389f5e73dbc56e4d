"""MariaDB Galera, three nodes that all take writes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import make_url

from sqlsessions import SessionConflict, SessionStorage, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._base import PATIENCE

from ..databases import MySQLServer
from .servers.galera import NODES, Galera, galera
from .test_pgbouncer import UPGRADE

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

WAITING = {"init_command": "SET SESSION wsrep_sync_wait = 1"}
each_driver = pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Galera]:
    with galera() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def urls(cluster: Galera) -> list[str]:
    """A database with our tables, by way of each node, whose reads wait for what was written elsewhere."""
    urls = cluster.create_database()
    asyncio.run(schema.upgrade(urls[0]))
    return [waiting(url) for url in urls]


def waiting(url: str, driver: str = "asyncmy") -> str:
    parsed = make_url(url).set(drivername=f"mysql+{driver}").update_query_dict(WAITING)
    return parsed.render_as_string(hide_password=False)


@asynccontextmanager
async def one_on_each(urls: list[str]) -> AsyncIterator[list[SqlSessionStorage]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(SqlSessionStorage(url)) for url in urls]


class TestOnANode(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, urls: list[str]) -> Iterator[None]:
        self.url = urls[0]
        yield
        MySQLServer(make_url(self.url)).clear(make_url(self.url))

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


@each_driver
async def test_a_read_on_another_node_sees_what_was_written(urls: list[str], driver: str) -> None:
    async with one_on_each([waiting(url, driver) for url in urls]) as storages:
        for turn in range(200):
            data = b"%d" % turn
            await storages[turn % NODES].write_bytes("id", data)
            assert await storages[(turn + 1) % NODES].read_bytes("id") == data


async def test_conditional_writes_on_three_nodes_lose_no_update(urls: list[str]) -> None:
    async with one_on_each(urls) as storages:
        await storages[0].write_bytes("counter", b"0")
        conflicts = 0

        async def count(storage: SqlSessionStorage) -> None:
            nonlocal conflicts
            done = 0
            while done < 40:
                snapshot = await storage.load("counter")
                assert snapshot is not None
                data = b"%d" % (int(snapshot.data) + 1)
                try:
                    await storage.write_bytes("counter", data, if_match=snapshot.info.version)
                except SessionConflict:
                    conflicts += 1
                else:
                    done += 1

        async with asyncio.timeout(PATIENCE * 4):
            await asyncio.gather(*(count(storage) for storage in storages))
        assert await storages[0].read_bytes("counter") == b"%d" % (40 * NODES)
        assert conflicts


async def test_of_many_who_begin_a_session_on_three_nodes_one_wins(urls: list[str]) -> None:
    async with one_on_each(urls) as storages:
        for turn in range(50):
            id = f"new {turn}"
            outcomes = await asyncio.gather(
                *(storage.write_bytes(id, b"", if_match=0) for storage in storages), return_exceptions=True
            )
            won = [outcome for outcome in outcomes if not isinstance(outcome, SessionConflict)]
            assert len(won) == 1
            assert not isinstance(won[0], BaseException)


async def test_a_logout_on_one_node_sticks_on_the_others(urls: list[str]) -> None:
    async with one_on_each(urls) as storages:
        for turn in range(50):
            info = await storages[0].write_bytes("id", b"logged in")
            outcomes = await asyncio.gather(
                storages[1].invalidate("id"),
                storages[2].write_bytes("id", b"a slow request", if_match=info.version),
                return_exceptions=True,
            )
            assert all(
                outcome is None
                or not isinstance(outcome, BaseException)
                or isinstance(outcome, SessionConflict)
                for outcome in outcomes
            )
            assert await storages[turn % NODES].load("id") is None


async def test_migrations_on_three_nodes_at_once_are_finished_by_another(cluster: Galera) -> None:
    """GET_LOCK is a node's own: some may fail, none does damage."""
    urls = cluster.create_database()
    migrating = [await asyncio.create_subprocess_exec(sys.executable, "-c", UPGRADE, url) for url in urls]
    async with asyncio.timeout(PATIENCE * 2):
        assert 0 in [await one.wait() for one in migrating]
    await schema.upgrade(urls[1])
    for url in urls:
        await schema.check(waiting(url))


async def test_migrations_on_one_node_wait_for_one_another(cluster: Galera) -> None:
    url = cluster.create_database()[0]
    migrating = [await asyncio.create_subprocess_exec(sys.executable, "-c", UPGRADE, url) for _ in range(3)]
    async with asyncio.timeout(PATIENCE * 2):
        assert [await one.wait() for one in migrating] == [0] * 3
    await schema.check(url)


async def test_a_node_dies_and_joins_again(cluster: Galera, urls: list[str]) -> None:
    async with one_on_each(urls) as storages:
        await asyncio.gather(*(storage.write_bytes(f"before {i}", b"") for i, storage in enumerate(storages)))
        await asyncio.to_thread(cluster.kill, 2)
        for id in ("one", "two"):
            async with asyncio.timeout(PATIENCE * 2):
                while True:
                    try:
                        await storages[0].write_bytes(id, b"while one is down")
                        assert await storages[1].read_bytes(id) == b"while one is down"
                        break
                    except StorageUnavailable:
                        await asyncio.sleep(0.1)
        with pytest.raises(StorageUnavailable):
            await storages[2].load("one")
        await asyncio.to_thread(cluster.start, 2)
        assert [cluster.size(node) for node in range(NODES)] == [NODES] * NODES
        assert await storages[2].read_bytes("two") == b"while one is down"
        await storages[2].write_bytes("three", b"by the one that was down")
        assert await storages[0].read_bytes("three") == b"by the one that was down"
