"""PostgreSQL behind HAProxy, whose primary dies or changes places while sessions are written."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from sqlsessions import SessionStorage, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.testing import ManualClock, StorageContract

from ..databases import PostgreSQLServer
from .servers.patroni import Patroni, patroni

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

LOG = logging.getLogger(__name__)
WRITERS = 8
RECOVERS_WITHIN = 120.0  # seconds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Patroni]:
    with patroni() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def url(cluster: Patroni) -> str:
    url = cluster.create_database()
    asyncio.run(schema.upgrade(url))
    return url


class TestBehindHAProxy(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, url: str) -> Iterator[None]:
        self.url = url
        yield
        server = PostgreSQLServer(make_url(url))
        server.clear(make_url(url))

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock)


class Load:
    """Writers that count what they were told.

    Attributes:
        acknowledged: The last data of each session whose write returned.
        errors: What callers saw, by type and cause.
        uncertain: What was tried on each session since then, in vain or not.
        count: How many writes returned.
        longest: The longest time between two acknowledgements, in seconds.
    """

    def __init__(self, storage: SqlSessionStorage) -> None:
        self._storage = storage
        self.acknowledged: dict[str, int] = {}
        self.uncertain: dict[str, set[int]] = {}
        self.errors: Counter[str] = Counter()
        self.count = 0
        self.longest = 0.0
        self._last = time.monotonic()
        self._stopping = False

    async def write(self, writer: int) -> None:
        turn = 0
        while not self._stopping:
            turn += 1
            id = f"session {writer} {turn % 50}"
            try:
                await self._storage.write_bytes(id, b"%d" % turn)
            except StorageUnavailable as error:
                self.errors[
                    f"{type(error.__cause__).__name__}: {getattr(error.__cause__, 'sqlstate', '')}"
                ] += 1
                self.uncertain.setdefault(id, set()).add(turn)
                await asyncio.sleep(0.1)
            else:
                self.acknowledged[id] = turn
                self.count += 1
                self.uncertain.pop(id, None)
                self.longest = max(self.longest, time.monotonic() - self._last)
                self._last = time.monotonic()

    async def progress(self) -> None:
        """Wait until every writer has been acknowledged again."""
        async with asyncio.timeout(RECOVERS_WITHIN):
            before = dict(self.acknowledged)
            while any(
                all(
                    self.acknowledged.get(f"session {w} {n}") == before.get(f"session {w} {n}")
                    for n in range(50)
                )
                for w in range(WRITERS)
            ):
                await asyncio.sleep(0.05)

    async def lost(self) -> list[str]:
        """The sessions that hold neither what was acknowledged last nor what was tried after it."""
        lost = []
        for id, turn in self.acknowledged.items():
            snapshot = await self._storage.load(id)
            if snapshot is None or int(snapshot.data) not in {turn} | self.uncertain.get(id, set()):
                lost.append(id)
        return lost


async def under_load(url: str, cluster: Patroni, fault: str) -> Load:
    async with SqlSessionStorage(url) as storage:
        load = Load(storage)
        writers = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
        await load.progress()
        await asyncio.to_thread(getattr(cluster, fault))
        await load.progress()
        await load.progress()
        await asyncio.to_thread(cluster.restart_dead)
        load._stopping = True
        await asyncio.gather(*writers)
        assert await load.lost() == []
    LOG.info(
        "%s: %d writes acknowledged, none lost, outage %.1f s, errors %s",
        fault,
        load.count,
        load.longest,
        dict(load.errors),
    )
    return load


@pytest.mark.parametrize("fault", ["kill_postmaster", "switchover", "kill_primary"])
async def test_no_acknowledged_write_is_lost_and_the_same_storage_goes_on(
    url: str, cluster: Patroni, fault: str
) -> None:
    load = await under_load(url, cluster, fault)
    assert load.acknowledged
