"""Services whose clocks disagree: directed histories, each of which once lost, doubled or brought back something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import SessionConflict, SessionInfo, SqlSessionStorage, StorageUnavailable
from sqlsessions.channels import ByteReadChannel, ByteWriteChannel
from sqlsessions.sql.statements import in_doubt
from sqlsessions.testing import ManualClock

from ..sql.support import TINY, each_database

HOUR = 3600.0
OFFSETS = [-HOUR, -2.0, 0.0, 2.0, HOUR]
PAST_2109 = 140 * 365 * 24 * HOUR

Services = Callable[..., Awaitable[list[SqlSessionStorage]]]


@pytest_asyncio.fixture
async def services(sql_url: str) -> AsyncIterator[Services]:
    """Makes services whose clocks are ahead by some seconds."""
    async with AsyncExitStack() as stack:

        async def make(*offsets: float) -> list[SqlSessionStorage]:
            made = []
            for offset in offsets:
                clock = ManualClock()
                clock.advance(offset)
                storage = SqlSessionStorage(sql_url, clock=clock, ttl=None, **TINY)
                made.append(await stack.enter_async_context(storage))
            return made

        yield make


def lose_reply(
    storage: SqlSessionStorage, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[Any]]
) -> None:
    """Lose the reply to the next change of a storage, and do something before the storage looks for the outcome."""
    driver: Any = storage._repository._executor._driver
    write, in_transaction, look = driver.write, storage._database.in_transaction, in_doubt.look
    losses = 0
    looked = False

    def lose(*results: Any) -> None:
        nonlocal losses
        if any(results) and not losses:
            losses += 1
            raise ConnectionResetError

    async def written(connection: Any, changes: Any) -> Any:
        results = await write(connection, changes)
        lose(*results)
        return results

    async def transacted(connection: Any, work: Any, **options: Any) -> Any:
        result = await in_transaction(connection, work, **options)
        lose(result)
        return result

    async def looking(connection: Any, *arguments: Any) -> Any:
        nonlocal looked
        if not looked:
            looked = True
            await then()
        return await look(connection, *arguments)

    monkeypatch.setattr(driver, "write", written)
    monkeypatch.setattr(storage._database, "in_transaction", transacted)
    monkeypatch.setattr(in_doubt, "look", looking)


@each_database
@pytest.mark.parametrize("data", [b"data", bytes(250)], ids=["small", "large"])
async def test_versions_grow_in_the_row_whichever_service_writes(services: Services, data: bytes) -> None:
    storages = await services(*OFFSETS, PAST_2109)
    for condition in (True, False):
        last = await storages[0].write_bytes("id", b"first")
        for number in range(30):
            storage = storages[(number * 7 + number // 6) % len(storages)]
            if_match = last.version if condition else None
            info = await storage.write_bytes("id", data + b"%d" % number, if_match=if_match)
            assert info.version > last.version
            assert await storages[0].read_bytes("id") == data + b"%d" % number
            last = info


@each_database
@pytest.mark.parametrize("ahead", OFFSETS)
@pytest.mark.parametrize("condition", [True, False])
async def test_what_was_lost_is_not_done_again_over_another_service_s_write(
    services: Services, monkeypatch: pytest.MonkeyPatch, ahead: float, condition: bool
) -> None:
    one, other = await services(ahead, 0.0)
    before = await one.write_bytes("id", b"before")

    async def overwrite() -> None:
        met = await other.info("id")
        assert met is not None
        await other.write_bytes("id", b"theirs", if_match=met.version)

    lose_reply(one, monkeypatch, overwrite)
    if_match = before.version if condition else None
    with pytest.raises(StorageUnavailable, match="unknown"):
        await one.write_bytes("id", b"ours", if_match=if_match)
    assert await other.read_bytes("id") == b"theirs"


@each_database
@pytest.mark.parametrize("ahead", OFFSETS)
@pytest.mark.parametrize("condition", [True, False])
async def test_what_was_lost_does_not_bring_back_what_another_service_ended(
    services: Services, monkeypatch: pytest.MonkeyPatch, ahead: float, condition: bool
) -> None:
    one, other = await services(ahead, 0.0)
    before = await one.write_bytes("id", b"before")

    async def end() -> None:
        await other.invalidate("id")
        await other.purge()

    lose_reply(one, monkeypatch, end)
    if_match = before.version if condition else None
    with pytest.raises(StorageUnavailable, match="unknown"):
        await one.write_bytes("id", b"ours", if_match=if_match)
    assert await other.info("id") is None


@each_database
async def test_a_write_that_is_delivered_late_does_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt is lost on its way, done again, and delivered after another service has written."""
    one, other = await services(0.0, 0.0)
    await one.write_bytes("id", b"before")
    driver: Any = one._repository._executor._driver
    write = driver.write
    held: list[Any] = []

    async def delayed(connection: Any, changes: Any) -> Any:
        if not held:
            held.extend(changes)
            raise ConnectionResetError
        return await write(connection, changes)

    monkeypatch.setattr(driver, "write", delayed)
    await one.write_bytes("id", b"ours")
    last = await other.write_bytes("id", b"theirs")
    async with driver.checkout(writes=True) as connection:
        await write(connection, held)
    assert await other.load("id") is not None
    assert (await other.read_bytes("id"), await other.info("id")) == (b"theirs", last)


@each_database
async def test_a_reader_has_its_minute_whatever_the_clock_of_the_purge(services: Services) -> None:
    one, ahead = await services(-HOUR, HOUR)
    await one.write_bytes("id", bytes(1000))
    read: list[bytes] = []

    async def slow(channel: ByteReadChannel) -> None:
        read.append(await channel.read(10))
        await one.write_bytes("id", b"small")
        await ahead.purge()
        read.append(await channel.read())

    await one.read("id", slow)
    assert b"".join(read) == bytes(1000)


@each_database
async def test_a_slow_writer_has_its_day_whatever_the_clock_of_the_purge(services: Services) -> None:
    behind, ahead = await services(-48 * HOUR, HOUR)

    async def slow(channel: ByteWriteChannel) -> None:
        await channel.write(bytes(500))
        await ahead.purge()
        await ahead.purge()
        await channel.write(bytes(500))

    await behind.write("id", slow)
    assert await ahead.read_bytes("id") == bytes(1000)


@each_database
async def test_one_writer_of_a_version_wins_while_clocks_step(services: Services) -> None:
    storages = await services(*OFFSETS)
    chance = random.Random(12)
    for number in range(60):
        for storage in storages:
            storage.clock.advance(chance.choice([0.0, 0.0, 2.0, -2.0, 60.0, -60.0, HOUR, -HOUR]))  # type: ignore[attr-defined]
        before = await storages[number % 5].write_bytes("id", b"before")
        results = await asyncio.gather(
            *(
                storage.write_bytes("id", b"%d" % place, if_match=before.version)
                for place, storage in enumerate(storages)
            ),
            return_exceptions=True,
        )
        [won] = [place for place, each in enumerate(results) if isinstance(each, SessionInfo)]
        assert all(isinstance(each, (SessionInfo, SessionConflict)) for each in results)
        assert await storages[0].read_bytes("id") == b"%d" % won
        assert await storages[0].info("id") == results[won]


@each_database
async def test_a_clock_past_2109_blocks_no_write(services: Services) -> None:
    far, near = await services(PAST_2109, 0.0)
    for storage in (far, near, far, near):
        info = await storage.write_bytes("id", b"data")
        info = await storage.write_bytes("id", bytes(500), if_match=info.version)
        assert await storage.load("id") is not None
        await storage.invalidate("id")
        await storage.purge()
