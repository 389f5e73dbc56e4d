"""MySQL Group Replication, three members: one that takes writes, and dies, or three that do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from sqlsessions import SessionStorage, SqlSessionStorage, schema
from sqlsessions.testing import ManualClock, StorageContract

from ..databases import MySQLServer
from ..sql.support import quiet
from .ledger import Ledger
from .load import Load
from .proxy import Proxy
from .rounds import rounds
from .servers.group_replication import Group, group
from .several_primaries import Counting, SeveralPrimaries, each_driver

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

NAMES = [f"slot-{number}" for number in range(16)]
LIMITS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384}
WAITING = {"init_command": "SET SESSION group_replication_consistency = 'BEFORE'"}
COUNTERS = 4


@pytest.fixture(scope="module")
def one_primary() -> Iterator[Group]:
    with group() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def database(one_primary: Group) -> str:
    """A database with our tables, by way of the first primary."""
    primary, urls = one_primary.primary(), one_primary.create_database()
    url = urls[one_primary.members.index(primary)]
    asyncio.run(schema.upgrade(url))
    return url


@pytest.fixture
def url(one_primary: Group, database: str) -> Iterator[str]:
    """The database without sessions, by way of the present primary."""

    def present() -> URL:
        return make_url(database).set(port=one_primary.primary().port)

    yield present().render_as_string(hide_password=False)
    MySQLServer(present()).clear(present())


@pytest.fixture(scope="module")
def many_primaries() -> Iterator[list[str]]:
    """A database with our tables, by way of each member, whose reads wait for what was written elsewhere."""
    with group(
        group_replication_single_primary_mode="OFF", group_replication_enforce_update_everywhere_checks="ON"
    ) as cluster:
        urls = cluster.create_database()
        asyncio.run(schema.upgrade(urls[0]))
        yield [waiting(url) for url in urls]


def waiting(url: str) -> str:
    return make_url(url).update_query_dict(WAITING).render_as_string(hide_password=False)


class TestOnThePrimary(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, url: str) -> None:
        self.url = url

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


@each_driver
@rounds(2, 10)
async def test_nothing_acknowledged_is_lost_when_the_primary_is_killed(
    one_primary: Group, url: str, driver: str, rounds: int, reports: Any
) -> None:
    report, ledger, counting = (
        reports("kill -9 of the primary", f"Group Replication, {driver}"),
        Ledger(),
        Counting(),
    )
    moments = random.Random(rounds)
    database = make_url(url).set(drivername=f"mysql+{driver}")
    async with (
        Proxy.to(database.render_as_string(hide_password=False)) as proxy,
        SqlSessionStorage(proxy.url, pool_timeout=5, **LIMITS) as storage,
    ):
        await storage.write_bytes("counter", b"0")
        for number in range(rounds):
            load = Load(storage, ledger, seed=number)
            load.start(NAMES)
            counting.stopped.clear()
            counters = [asyncio.create_task(counting.count(storage)) for _ in range(COUNTERS)]
            await load.until(100)
            await asyncio.sleep(moments.random() / 20)
            killed = one_primary.primary()
            killed.kill()
            died = time.monotonic()
            primary = await asyncio.to_thread(one_primary.primary)
            proxy.lead_to(primary.port)
            await load.until(1)
            report.recovery.append(time.monotonic() - died)
            await load.until(100)
            counting.stopped.set()
            await load.stop()
            await asyncio.gather(*counters)
            await quiet(storage)
            await counting.check(storage)
            await storage.invalidate("counter")
            await ledger.verify(storage)
            await storage.write_bytes("counter", b"%d" % counting.added)
            counting.unknown = 0
            report.rounds += 1
            await asyncio.to_thread(one_primary.restart_dead)
        await storage.invalidate("counter")
    assert counting.added
    report.add(ledger)
    report.check()


class TestOnAll(SeveralPrimaries):
    @pytest.fixture
    def urls(self, many_primaries: list[str]) -> list[str]:
        return many_primaries
