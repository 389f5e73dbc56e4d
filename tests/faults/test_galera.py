"""MariaDB Galera, three nodes that all take writes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from sqlsessions import SessionStorage, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._base import PATIENCE

from ..databases import MySQLServer
from .servers.galera import NODES, Galera, galera
from .several_primaries import SeveralPrimaries, one_on_each
from .test_pgbouncer import UPGRADE

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

WAITING = {"init_command": "SET SESSION wsrep_sync_wait = 1"}


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


def waiting(url: str) -> str:
    return make_url(url).update_query_dict(WAITING).render_as_string(hide_password=False)


class TestOnANode(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, urls: list[str]) -> Iterator[None]:
        self.url = urls[0]
        yield
        MySQLServer(make_url(self.url)).clear(make_url(self.url))

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


class TestOnAll(SeveralPrimaries):
    """By way of the nodes of `urls`."""


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
