"""Our tables in parts: PostgreSQL's hash partitions, and MariaDB's Spider over two servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, make_url

from sqlsessions import SessionStorage, SqlSessionStorage, schema
from sqlsessions.testing import ManualClock, StorageContract

from ..databases import TABLES, MySQLServer, PostgreSQLServer, available
from .servers.spider import Spider, spider

PARTITIONS = 4


INDEXES = {
    "sessions_subject_created_at_idx": "ix_sessions_subject",
    "sessions_expires_bucket_id_idx": "ix_sessions_expires_bucket",
}
"""What PostgreSQL calls the copied indexes, and what they must be called."""


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
    assert isinstance(server, PostgreSQLServer)
    url = server.create()
    asyncio.run(schema.upgrade(url))
    server.execute(url, *partitioned("sessions"), *partitioned("session_chunks"))
    server.execute(url, *(f"ALTER INDEX {copied} RENAME TO {name}" for copied, name in INDEXES.items()))
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


# Spider says of every DELETE that it deleted no rows, so a purge there does not count small sessions.
COUNTED = (
    "test_purge_deletes_expired_sessions_and_counts_them",
    "test_purge_goes_batch_by_batch",
    "test_purge_leaves_what_was_extended",
    "test_purge_takes_what_was_shortened",
    "test_purges_at_once_delete_each_session_once",
    "test_purge_refuses_batches_that_are_none",
    "test_nothing_is_kept_unless_asked_for",
    "test_a_session_that_ended_is_absent_everywhere[purged",
    "test_a_session_under_the_id_of_one_that_ended_is_new[purged",
)

# Nor does it give the texts of several rows right, or sort them by ids that are created at one time.
MIXED_UP = (
    "test_many_sessions_with_a_label_are_listed_by_key_and_revoked",
    "test_no_session_escapes_by_getting_another_id",
    "test_a_client_is_set_kept_changed_and_cleared",
    "test_many_sessions_are_listed_once_each_and_revoked",
)


def clear(url: URL) -> None:
    """Delete every session of a node, which has no notices."""
    MySQLServer(url).execute(url, *(f"DELETE FROM {table}" for table in TABLES))


@pytest.mark.long
@pytest.mark.timeout(300)
class TestSpider(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _uncounted(self, request: pytest.FixtureRequest) -> None:
        name = request.node.name
        if name.startswith(COUNTED) and "large" not in name:
            request.applymarker(pytest.mark.xfail(raises=AssertionError, reason="purge counts too few"))
        if name.startswith(MIXED_UP):
            request.applymarker(pytest.mark.xfail(reason="Spider mixes up texts", strict=False))

    @pytest.fixture(autouse=True)
    def _url(self, cluster: Spider, spread: str) -> Iterator[None]:
        self.url = spread
        yield
        for node in cluster.nodes:
            clear(make_url(spread).set(port=node.port))

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


@pytest.mark.long
async def test_spider_purges_and_revokes_though_deleting_counts_nothing(cluster: Spider, spread: str) -> None:
    def rows() -> int:
        count = f"SELECT COUNT(*) FROM {make_url(spread).database}.sessions"
        return sum(int(node.value(count) or 0) for node in cluster.nodes)

    clock = ManualClock()
    async with SqlSessionStorage(spread, clock=clock, ttl=60, inline_limit=100, chunk_size=100) as storage:
        for node in cluster.nodes:
            clear(make_url(spread).set(port=node.port))
        await asyncio.gather(*(storage.write_bytes(f"small {i}", b"", subject="ann") for i in range(250)))
        await asyncio.gather(*(storage.write_bytes(f"large {i}", bytes(300)) for i in range(10)))
        assert await storage.revoke("ann", keep="small 0") == 249
        [info] = [info async for info in storage.sessions("ann")]
        assert await storage.invalidate_key(info.key)
        await asyncio.gather(*(storage.write_bytes(f"small {i}", b"") for i in range(250)))
        clock.advance(3 * 24 * 3600)
        await storage.purge(batch_size=100)
        assert rows() == 0
