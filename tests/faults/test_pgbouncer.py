"""Everything through PgBouncer, which gives a server connection to another client after each transaction."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sqlsessions import CacheStorage, SessionConflict, SessionStorage, SqlSessionStorage, schema
from sqlsessions.sql.diagnosis.base import Plan
from sqlsessions.sql.diagnosis.doctor import of_database
from sqlsessions.sql.engine.database import Database
from sqlsessions.sql.engine.temporary import TEMPORARY
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._base import PATIENCE

from ..sql.buses import cached, until, until_gone
from ..sql.support import query
from ..sql.test_processes import WRITER
from .servers.pgbouncer import PgBouncer, pgbouncer
from .servers.postgres import Postgres, postgres_server

SERVER_CONNECTIONS = 4  # fewer than the clients have, so that they get each other's
UNPREPARED = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
OPEN = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
each_driver = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def pooler(server: Postgres) -> Iterator[PgBouncer]:
    with pgbouncer(server.url, default_pool_size=SERVER_CONNECTIONS) as pooler:
        yield pooler


@pytest.fixture
def url(server: Postgres, pooler: PgBouncer, driver: str) -> str:
    """A new, empty database, by way of the pooler."""
    return pooler.by_way(server.create_database()).replace("://", f"+{driver}://")


@pytest.fixture(scope="module", params=["asyncpg", "psycopg"])
def migrated_url(request: pytest.FixtureRequest, server: Postgres, pooler: PgBouncer) -> str:
    """A database with our tables, by way of the pooler."""
    direct = server.create_database()
    asyncio.run(schema.upgrade(direct))
    return pooler.by_way(direct).replace("://", f"+{request.param}://")


@pytest.mark.long
class TestThroughPgBouncer(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, migrated_url: str, server: Postgres) -> Iterator[None]:
        self.url = migrated_url
        yield
        server.clear(migrated_url)

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


@each_driver
async def test_many_clients_share_few_server_connections(url: str) -> None:
    """Each has prepared its own statements, and none takes another's for its own."""
    await schema.upgrade(url)
    storages = [SqlSessionStorage(url, pool_size=4, inline_limit=100, chunk_size=100) for _ in range(4)]

    async def use(storage: SqlSessionStorage, name: str) -> int:
        won = 0
        for turn in range(5):
            data = f"{name} {turn} ".encode() * (1 + turn * 4)
            await storage.write_bytes(name, data, subject=name)
            assert await storage.read_bytes(name) == data
            snapshot = await storage.load("shared")
            assert snapshot is not None
            try:
                count = b"%d" % (int(snapshot.data) + 1)
                await storage.write_bytes("shared", count, if_match=snapshot.info.version)
                won += 1
            except SessionConflict:
                pass
            await storage.rotate(name, f"{name} moved")
            assert await storage.revoke(name) == 1
        return won

    try:
        await storages[0].write_bytes("shared", b"0")
        names = [(storage, f"{i} {j}") for i, storage in enumerate(storages) for j in range(3)]
        won = await asyncio.gather(*(use(storage, name) for storage, name in names))
        assert await storages[-1].read_bytes("shared") == b"%d" % sum(won)
        assert [info async for info in storages[0].sessions()] == [await storages[0].info("shared")]
    finally:
        await asyncio.gather(*(storage.aclose() for storage in storages))


@pytest.mark.long
@each_driver
async def test_two_processes_through_one_pooler_lose_nothing(url: str) -> None:
    await schema.upgrade(url)
    async with SqlSessionStorage(url) as storage:
        await storage.write_bytes("shared", b"0")
        writers = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, name)
            for name in ("one", "two")
        ]
        async with asyncio.timeout(PATIENCE):
            assert [await writer.wait() for writer in writers] == [0, 0]
        assert await storage.read_bytes("shared") == b"120"


@each_driver
async def test_migrations_run_through_the_pooler(url: str) -> None:
    await schema.upgrade(url)
    await schema.check(url)
    assert await schema.current(url) == "sqlsessions_0005"
    await schema.upgrade(url)
    await schema.downgrade(url, "sqlsessions@base")
    assert await schema.current(url) is None


@each_driver
async def test_a_bus_that_is_behind_the_pooler_says_so(url: str, caplog: pytest.LogCaptureFixture) -> None:
    await schema.upgrade(url)
    async with CacheStorage(SqlSessionStorage(url)) as cache, SqlSessionStorage(url) as there:
        await cache.write_bytes("id", b"data")

        async def noticed() -> bool:
            assert await cache.read_bytes("id") == b"data"
            bus = cache.statistics.bus
            return bus is not None and "direct_url" in str(bus.obstacle)

        await until(noticed)
        before = cache.statistics
        await there.invalidate("id")
        assert await cache.load("id") is None  # compared with the database, as by strict=True
        assert cache.statistics.bypassed == before.bypassed + 1
    assert "as direct_url" in caplog.text
    database = Database(url, TEMPORARY, {})
    findings = {each.check: each async for each in of_database(database, Plan(database.url))}
    await database.engines.aclose()
    assert "direct_url" in str(findings["pooler"].advice)


@each_driver
async def test_notices_come_past_the_pooler(url: str, server: Postgres) -> None:
    await schema.upgrade(url)
    there = make_url(server.url)
    direct = make_url(url).set(host=there.host, port=there.port)
    async with cached(url, direct_url=direct) as cache, SqlSessionStorage(url) as other:
        await other.write_bytes("id", b"data")
        assert await cache.read_bytes("id") == b"data"
        await other.invalidate("id")
        await until_gone(cache)
        assert cache.statistics.bus is not None
        assert cache.statistics.bus.obstacle is None


UPGRADE = """
import asyncio, sys
from sqlsessions import schema
asyncio.run(schema.upgrade(sys.argv[1]))
"""


@each_driver
async def test_processes_that_migrate_through_the_pooler_wait_for_one_another(
    url: str, server: Postgres
) -> None:
    upgrading = [await asyncio.create_subprocess_exec(sys.executable, "-c", UPGRADE, url) for _ in range(2)]
    async with asyncio.timeout(PATIENCE):
        assert [await one.wait() for one in upgrading] == [0] * 2
    await schema.check(url)
    assert server.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


@each_driver
async def test_a_pooler_that_is_started_again_is_used_again(url: str, pooler: PgBouncer) -> None:
    await schema.upgrade(url)
    async with SqlSessionStorage(url) as storage:
        await storage.write_bytes("id", b"before")
        await asyncio.to_thread(pooler.kill)
        await asyncio.to_thread(pooler.start)
        assert await storage.read_bytes("id") == b"before"
        await storage.write_bytes("id", b"after")
        assert await storage.read_bytes("id") == b"after"


@pytest.mark.parametrize("driver", ["asyncpg"])
async def test_who_gives_up_before_the_pooler_has_a_server_leaves_nothing_open(
    url: str, server: Postgres
) -> None:
    await schema.upgrade(url)
    direct = make_url(server.url).set(drivername="postgresql+asyncpg", database=make_url(url).database)
    engine = create_async_engine(url, poolclass=NullPool, connect_args=UNPREPARED)
    async with SqlSessionStorage(url) as storage, AsyncExitStack() as held:
        await storage.write_bytes("id", b"data", subject="ann")
        await storage.revoke("nobody")  # its connection is there
        for _ in range(SERVER_CONNECTIONS):
            holder = await held.enter_async_context(engine.connect())
            await holder.exec_driver_sql("SELECT 1")  # in a transaction that stays open
        revoking = asyncio.create_task(storage.revoke("ann"))
        await asyncio.sleep(0.3)
        revoking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await revoking
        await held.aclose()
        async with asyncio.timeout(PATIENCE):
            while await query(direct.render_as_string(hide_password=False), OPEN):
                await asyncio.sleep(0.05)
        assert await storage.read_bytes("id") == b"data"
