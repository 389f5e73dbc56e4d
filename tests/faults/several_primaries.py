"""What holds on MySQL's and MariaDB's clusters whose servers all take writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy import make_url

from sqlsessions import SessionConflict, SqlSessionStorage, StorageUnavailable
from sqlsessions.testing._base import PATIENCE

each_driver = pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])


@asynccontextmanager
async def one_on_each(urls: list[str], driver: str = "asyncmy") -> AsyncIterator[list[SqlSessionStorage]]:
    async with AsyncExitStack() as stack:
        by_driver = [make_url(url).set(drivername=f"mysql+{driver}") for url in urls]
        yield [await stack.enter_async_context(SqlSessionStorage(url)) for url in by_driver]


class Counting:
    """Callers that add one to a session each, on the condition that nobody else did meanwhile.

    Attributes:
        added: How often they were told that it took effect.
        unknown: How often they were told that this is not known.
        conflicts: How often somebody else was first.
    """

    def __init__(self) -> None:
        self.added = self.unknown = self.conflicts = 0
        self.stopped = asyncio.Event()

    async def count(self, storage: SqlSessionStorage, most: int | None = None) -> None:
        """Add until it is stopped, or was done so often."""
        added = 0
        while not self.stopped.is_set() and (most is None or added < most):
            try:
                snapshot = await storage.load("counter")
                assert snapshot is not None
                data = b"%d" % (int(snapshot.data) + 1)
                await storage.write_bytes("counter", data, if_match=snapshot.info.version)
            except SessionConflict:
                self.conflicts += 1
            except StorageUnavailable:
                self.unknown += 1
                await asyncio.sleep(0.02)
            else:
                self.added += 1
                added += 1

    async def check(self, storage: SqlSessionStorage) -> None:
        """Fail if an addition was lost or done twice."""
        assert self.added <= int(await storage.read_bytes("counter")) <= self.added + self.unknown


class SeveralPrimaries:
    """Tests of servers that all take writes.

    A fixture ``urls`` has a URL of each, whose reads wait for what was written elsewhere.
    """

    @each_driver
    async def test_a_read_on_another_sees_what_was_written(self, urls: list[str], driver: str) -> None:
        async with one_on_each(urls, driver) as storages:
            for turn in range(200):
                data = b"%d" % turn
                await storages[turn % len(urls)].write_bytes("id", data)
                assert await storages[(turn + 1) % len(urls)].read_bytes("id") == data

    @each_driver
    async def test_conditional_writes_on_all_lose_no_update(self, urls: list[str], driver: str) -> None:
        counting = Counting()
        async with one_on_each(urls, driver) as storages:
            await storages[0].write_bytes("counter", b"0")
            async with asyncio.timeout(PATIENCE * 4):
                await asyncio.gather(*(counting.count(storage, 40) for storage in storages))
            await counting.check(storages[0])
        assert (counting.added, counting.unknown) == (40 * len(urls), 0)
        assert counting.conflicts

    async def test_of_many_who_begin_a_session_one_wins(self, urls: list[str]) -> None:
        async with one_on_each(urls) as storages:
            for turn in range(50):
                id = f"new {turn}"
                outcomes = await asyncio.gather(
                    *(storage.write_bytes(id, b"", if_match=0) for storage in storages),
                    return_exceptions=True,
                )
                won = [outcome for outcome in outcomes if not isinstance(outcome, SessionConflict)]
                assert len(won) == 1
                assert not isinstance(won[0], BaseException)

    async def test_a_logout_on_one_sticks_on_the_others(self, urls: list[str]) -> None:
        async with one_on_each(urls) as storages:
            for turn in range(50):
                info = await storages[0].write_bytes("id", b"logged in")
                outcomes = await asyncio.gather(
                    storages[1].invalidate("id"),
                    storages[2].write_bytes("id", b"a slow request", if_match=info.version),
                    return_exceptions=True,
                )
                assert all(
                    not isinstance(outcome, BaseException) or isinstance(outcome, SessionConflict)
                    for outcome in outcomes
                )
                assert await storages[turn % len(urls)].load("id") is None
