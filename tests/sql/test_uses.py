"""Noting the use of a session: how often, by which statements, and once for many requests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sqlsessions import (
    CacheStorage,
    InvalidArgument,
    InvalidArgumentType,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE

from .support import each_database, each_database_and_mysql, statements, touching, verbs

EVERY = timedelta(minutes=10)
TTLS = [None, timedelta(days=14)]


class TickingClock(ManualClock):
    """One that never says the same time twice."""

    def __call__(self) -> float:
        self.advance(0.000_001)
        return super().__call__()


@each_database
async def test_a_use_that_is_due_is_one_statement_more(sql_url: str) -> None:
    clock = ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, ttl=None, touch_every=EVERY, pool_size=1) as storage:
        await storage.write_bytes("id", b"data")
        await storage.touch("id")
        for seconds, expected in ((599, ["SELECT"]), (1, ["SELECT", *touching(sql_url)]), (599, ["SELECT"])):
            clock.advance(seconds)
            async with statements(storage) as seen:
                await storage.touch("id")
            assert [each for each in verbs(seen) if each in ("SELECT", "UPDATE")] == expected


@pytest.mark.parametrize("ttl", TTLS, ids=["endless", "long"])
@each_database_and_mysql
async def test_of_64_touches_at_once_one_is_written(sql_url: str, ttl: timedelta | None) -> None:
    clock = TickingClock()
    async with SqlSessionStorage(sql_url, clock=clock, ttl=ttl, touch_every=EVERY) as storage:
        await storage.write_bytes("id", b"data")
        for _ in range(3):
            clock.advance(600)
            async with asyncio.timeout(PATIENCE):
                touched = await asyncio.gather(*(storage.touch("id") for _ in range(64)))
            assert len({info and info.used_at for info in touched}) == 1
            assert touched[0] == await storage.info("id")


@each_database
async def test_a_cache_learns_of_a_use_that_another_noted(sql_url: str) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"clock": clock, "touch_every": EVERY}
    beneath = SqlSessionStorage(sql_url, pool_size=1, **options)
    cache = CacheStorage(beneath, bus=None, max_staleness=10_000, idle_timeout=10_000)
    async with SqlSessionStorage(sql_url, **options) as other, cache:
        written = await other.write_bytes("id", b"data")
        await cache.load("id")
        clock.advance(600)
        touched = await other.touch("id")
        assert touched == replace(written, used_at=clock.now)
        assert await cache.info("id") == written
        clock.advance(599)
        async with statements(beneath) as seen:
            assert await cache.touch("id") == touched
        assert not any(each.startswith("UPDATE") for each in seen)
        assert await cache.info("id") == touched
        clock.advance(1)
        repeated = await cache.write_bytes("id", b"data")
        assert repeated == replace(written, used_at=clock.now)
        assert await cache.info("id") == await other.info("id") == repeated


TOUCHES = """
import asyncio, sys
from sqlsessions import SqlSessionStorage

async def main(url):
    async with SqlSessionStorage(url, touch_every=3600) as storage:
        await storage.info("id")
        print("ready", flush=True)
        sys.stdin.readline()
        for touched in await asyncio.gather(*(storage.touch("id") for _ in range(16))):
            print(touched.used_at.isoformat())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("ttl", TTLS, ids=["endless", "long"])
@each_database_and_mysql
async def test_of_64_touches_by_four_processes_one_is_written(sql_url: str, ttl: timedelta | None) -> None:
    clock = ManualClock(datetime.now().astimezone() - timedelta(hours=1))
    async with SqlSessionStorage(sql_url, clock=clock, ttl=ttl, touch_every=3600) as storage:
        written = await storage.write_bytes("id", b"data")
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                TOUCHES,
                sql_url,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(4)
        ]
        async with asyncio.timeout(2 * PATIENCE):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            found = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
        assert [process.returncode for process in processes] == [0] * 4
        used = b"".join(output for output, _ in found).split()
        assert len(used) == 64
        info = await storage.info("id")
        assert info is not None
        assert info.used_at is not None
        assert info.used_at > written.created_at
        assert set(used) == {info.used_at.isoformat().encode()}


@pytest.mark.parametrize(
    "make", [SessionStorageMemory, lambda **options: SqlSessionStorage("sqlite://", **options)]
)
@pytest.mark.parametrize(
    ("value", "error"),
    [(value, InvalidArgument) for value in (0, -1.0, timedelta(0), float("nan"), float("inf"))]
    + [(value, InvalidArgumentType) for value in ("10", True, b"")],
    ids=ascii,
)
def test_what_is_no_duration_is_refused(make: Callable[..., Any], value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="touch_every"):
        make(touch_every=value)
