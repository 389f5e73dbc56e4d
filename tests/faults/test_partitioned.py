"""Our tables in parts: PostgreSQL's hash partitions, and MariaDB's Spider over two servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from sqlsessions import SessionStorage, SqlSessionStorage, schema
from sqlsessions.testing import ManualClock, StorageContract

from ..databases import MySQLServer, available
from .servers.spider import Spider, spider

PARTITIONS = 4


def partitioned(table: str) -> list[str]:
    """Make a table anew, in parts by the hash of the session's id."""
    parts = [
        f"CREATE TABLE {table}_{i} PARTITION OF {table} FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {i})"
        for i in range(PARTITIONS)
    ]
    return [
        f"ALTER TABLE {table} RENAME TO {table}_whole",
        f"CREATE TABLE {table} (LIKE {table}_whole INCLUDING ALL) PARTITION BY HASH (id)",
        f"DROP TABLE {table}_whole",
        *parts,
    ]


@pytest.fixture(scope="module")
def hashed() -> Iterator[str]:
    """A PostgreSQL database whose tables have four parts each."""
    server = available("postgresql")
    url = server.create()
    asyncio.run(schema.upgrade(url))
    server.execute(url, *partitioned("sessions"), *partitioned("session_chunks"))
    yield url.render_as_string(hide_password=False)
    server.drop(url)


@pytest.mark.long
class TestHashPartitions(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, hashed: str) -> Iterator[None]:
        self.url = hashed
        yield
        available("postgresql").clear(make_url(hashed))

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


async def test_each_part_has_sessions_and_the_tables_fit(hashed: str) -> None:
    from ..sql.support import query

    await schema.check(hashed)
    async with SqlSessionStorage(hashed) as storage:
        for number in range(100):
            await storage.write_bytes(f"id {number}", b"")
    url = make_url(hashed).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
    parts = await query(url, "SELECT DISTINCT tableoid FROM sessions")
    assert len(parts) == PARTITIONS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Spider]:
    with spider() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def spread(cluster: Spider) -> str:
    """A database of the front, whose rows are on two other servers."""
    url = cluster.create_database()
    asyncio.run(schema.upgrade(url))
    cluster.spread(url)
    return url


@pytest.mark.long
class TestSpider(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, cluster: Spider, spread: str) -> Iterator[None]:
        self.url = spread
        yield
        for node in cluster.nodes:
            url = make_url(spread).set(port=node.port)
            MySQLServer(url).clear(url)

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


@pytest.mark.long
async def test_each_server_has_sessions_and_the_tables_fit(cluster: Spider, spread: str) -> None:
    await schema.check(spread)
    async with SqlSessionStorage(spread) as storage:
        for number in range(100):
            await storage.write_bytes(f"id {number}", b"")
    counts = [
        int(node.value(f"SELECT COUNT(*) FROM {make_url(spread).database}.sessions") or 0)
        for node in cluster.nodes
    ]
    assert sum(counts) == 100
    assert all(counts)
