"""The purge as a service: it goes on whatever happens, one process at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import (
    CacheStorage,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    Purged,
    Purging,
    SessionStorageMemory,
    SqlSessionStorage,
    StorageUnavailable,
)
from sqlsessions.sql import purge_lease as leases
from sqlsessions.sql.models import TOMBSTONE
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, provider_of

from .sql.support import TINY, age, each_database, query

LARGE = b"x" * 250


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def storage(sql_url: str, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        yield storage


async def fill(storage: ManagedSessionStorage, clock: ManualClock, number: int = 5) -> None:
    """Some expired sessions, small and large."""
    for each in range(number):
        await storage.write_bytes(f"small {each}", b"data", ttl=1)
        await storage.write("large", provider_of(LARGE), ttl=1)
    clock.advance(2)


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def rows(url: str) -> list[tuple[Any, ...]]:
    return await query(url, "SELECT count(*) FROM sessions")


@each_database
async def test_it_purges_in_the_background_again_and_again(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    await fill(storage, clock)
    async with storage.purging(every=0.01) as purging:
        await until(lambda: purging.statistics.purged.sessions == 6)
        await storage.write_bytes("another", b"data", ttl=1)
        clock.advance(90)
        await until(lambda: purging.statistics.purged.sessions == 7)
        await until(lambda: purging.statistics.rounds > 3)
        await age(sql_url, 61)
        await until(lambda: purging.statistics.purged.chunks >= 3 + 1)
        assert purging.statistics.purged.chunks >= 3 + 1  # the large one and its mark
        assert purging.statistics.failures == purging.statistics.skipped == 0
    rounds = purging.statistics.rounds
    await asyncio.sleep(0.05)
    assert purging.statistics.rounds == rounds
    assert await rows(sql_url) == [(0,)]
    assert await query(sql_url, "SELECT count(*) FROM session_chunks WHERE seq = -3") == [(0,)]


@pytest.mark.parametrize("cached", [False, True])
async def test_every_managed_storage_has_it(clock: ManualClock, cached: bool) -> None:
    memory = SessionStorageMemory(clock=clock)
    storage: ManagedSessionStorage = CacheStorage(memory) if cached else memory
    await fill(storage, clock)
    assert await storage.purging().once() == Purged(sessions=6)
    task = asyncio.create_task(storage.purging(every=0.01).run())
    await fill(storage, clock)
    await until(lambda: not memory._sessions)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@each_database
async def test_what_ended_is_forgotten_after_a_minute(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    for number in range(250):
        await storage.write_bytes(f"id {number}", b"data", subject="ann")
    await storage.revoke("ann")
    traces = f"SELECT count(*) FROM session_chunks WHERE seq <= {TOMBSTONE}"
    await age(sql_url, 30)
    await storage.purge()
    assert await query(sql_url, traces) == [(250,)]
    await age(sql_url, 30)
    await storage.purge()
    assert await query(sql_url, traces) == [(0,)]


@each_database
async def test_one_at_a_time(storage: SqlSessionStorage, clock: ManualClock, sql_url: str) -> None:
    await fill(storage, clock)
    purging = storage.purging()
    async with (
        SqlSessionStorage(sql_url, clock=clock) as other,
        leases.purge_lease(other._database) as lease,
    ):
        assert lease is not None
        skipped = asyncio.create_task(purging.once())
        while not skipped.done():  # the other process is alive and renews its lease
            lease._renewed_at = 0.0
            assert await lease.renew()
            await asyncio.sleep(0.01)
        assert await skipped is None
    assert purging.statistics.skipped == 1
    assert await storage.purging().once() != Purged()


@each_database
async def test_the_lease_of_a_dead_process_passes_on(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "DEAD_AFTER", 0.2)
    monkeypatch.setattr(leases, "POLL", 0.01)
    await fill(storage, clock)
    dead = leases.DatabaseLease(storage._database)
    assert await dead.acquire()
    purged = await storage.purging().once()
    assert purged is not None
    assert purged.sessions == 6
    dead._renewed_at = 0.0
    assert not await dead.renew()


async def test_a_round_that_loses_its_lease_ends_at_once(clock: ManualClock) -> None:
    ended = False

    async def batches(size: int) -> AsyncGenerator[Purged]:
        nonlocal ended
        try:
            while True:
                yield Purged(size)
        finally:
            ended = True

    class Lease:
        renewals = 0

        async def renew(self) -> bool:
            self.renewals += 1
            return self.renewals < 3

    purging = Purging(batches, lease=lambda: nullcontext(Lease()), batch_size=2)
    assert await purging.once() == Purged(6)
    assert ended
    assert purging.statistics.rounds == 1


@each_database
async def test_many_at_once_delete_each_session_once(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock) as storage:
        for number in range(50):
            await storage.write_bytes(f"id {number}", b"data", ttl=1)
        clock.advance(2)
        others = [SqlSessionStorage(sql_url, clock=clock) for _ in range(4)]
        purged = await asyncio.gather(*(other.purging(batch_size=7).once() for other in others))
        assert sum(each.sessions for each in purged if each) == 50
        for other in others:
            await other.aclose()


class Broken(SessionStorageMemory):
    """Fails to purge, but for every third time."""

    calls = 0

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        self.calls += 1
        if self.calls % 3 == 1:
            raise StorageUnavailable("the database is away")
        if self.calls % 3 == 2:
            raise RuntimeError("secret data")
        return await super().purge(batch_size=batch_size, max_batches=max_batches)


async def test_errors_end_a_round_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sqlsessions")
    storage = Broken()
    async with storage.purging(every=0.001) as purging:
        await until(lambda: purging.statistics.rounds >= 2)
    assert purging.statistics.failures >= 4
    assert "the database is away" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_it_comes_back_sooner_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            raise asyncio.CancelledError

    storage = SessionStorageMemory()

    async def fail(**_: Any) -> int:
        raise StorageUnavailable("the database is away")

    monkeypatch.setattr(storage, "purge", fail)
    monkeypatch.setattr("sqlsessions.purging.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await storage.purging(every=300).run()
    for number, pause in enumerate(pauses):
        assert 0.9 * min(2**number, 300) <= pause <= 1.1 * min(2**number, 300)
    assert len({round(pause, 6) for pause in pauses[-3:]}) == 3  # services do not march in step


async def test_it_gives_way_between_batches(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> None:
    """At least as long as it works, it pauses."""
    slept = 0.0
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        await real(0)

    async with SqlSessionStorage("sqlite://", clock=clock) as storage:
        for number in range(300):
            await storage.write_bytes(f"id {number}", b"data", ttl=1)
        clock.advance(2)
        monkeypatch.setattr("sqlsessions.purging.asyncio.sleep", sleep)
        await storage.purging().once()
    assert slept > 0


@each_database
async def test_cancelling_it_leaves_nothing_behind(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    for number in range(300):
        await storage.write_bytes(f"id {number}", b"data", ttl=1)
    clock.advance(2)
    seen = asyncio.Event()
    purging = storage.purging(progress=lambda _: seen.set())
    task = asyncio.create_task(purging.run())
    await seen.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert purging.statistics.purged.sessions == 300 - (await rows(sql_url))[0][0]
    assert await query(sql_url, "SELECT count(*) FROM session_chunks WHERE seq = -3") == [(0,)]
    assert await storage.purging().once() is not None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"every": 0}, InvalidArgument),
        ({"every": None}, InvalidArgument),
        ({"every": "300"}, InvalidArgumentType),
        ({"batch_size": 0}, InvalidArgument),
        ({"batch_size": 10_001}, InvalidArgument),
        ({"batch_size": 1.5}, InvalidArgumentType),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        SessionStorageMemory().purging(**options)


async def sqlsessions(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    program = "from sqlsessions.cli import main; main()"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=pipe, stderr=pipe
    )


@each_database
async def test_the_command_purges_once(storage: SqlSessionStorage, sql_url: str) -> None:
    await storage.write_bytes("live", b"data", ttl=None)
    expired = SqlSessionStorage(sql_url, clock=lambda: 0.0, ttl=1, **TINY)
    await expired.write_bytes("small", b"data")
    await expired.write_bytes("large", LARGE)
    await expired.aclose()
    process = await sqlsessions("purge", "--url", sql_url)
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"deleted 2 expired sessions and 0 chunks" in output  # readers have a minute
    assert await rows(sql_url) == [(1,)]


@each_database
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_purges_until_it_is_told_to_stop(
    storage: SqlSessionStorage, sql_url: str, number: signal.Signals
) -> None:
    async with SqlSessionStorage(sql_url, clock=lambda: 0.0, ttl=1) as expired:
        await expired.write_bytes("small", b"data")
    process = await sqlsessions("purge", "--every", "1", "--url", sql_url)
    async with asyncio.timeout(PATIENCE):
        assert process.stderr is not None
        errors = await process.stderr.readline()  # of its first round
        os.kill(process.pid, number)
        output, more = await process.communicate()
    assert process.returncode == 0
    assert output.startswith(b"stopped: deleted 1 expired session and ")
    assert b"purged 1 expired sessions" in errors
    assert b"Traceback" not in more
    assert await rows(sql_url) == [(0,)]
