"""What a touch makes of a session in the database is what the rules say, whatever became of it since it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from sqlsessions import DEFAULT, KEEP, SqlSessionStorage
from sqlsessions.records import Record, digest, duration
from sqlsessions.sql.batching.operations import Operation, Touch
from sqlsessions.testing import ManualClock

from .support import INLINE, LARGE, each_way, holding

LIFETIMES: list[dict[str, Any]] = [
    {"ttl": None},
    {"ttl": 1000},
    {"ttl": None, "max_age": 1020},
    {"ttl": 1000, "max_age": 1020},
    {"ttl": 1000, "max_age": 1060},
]
TTLS: list[Any] = [DEFAULT, KEEP, None, 1, 1000, 1001, 3000]
SINCE = [0, 49, 50, 999]  # seconds; 50 are 5 % of the idle timeout, and the use that is noted
EVERY = 50


@each_way
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("every", [None, EVERY])
async def test_a_touch_does_what_the_rules_say(
    storage: SqlSessionStorage, clock: ManualClock, every: int | None, together: bool
) -> None:
    cases = {
        f"{number} {ttl!r}": (lifetime, ttl)
        for (number, lifetime), ttl in product(enumerate(LIFETIMES), TTLS)
    }
    for since, used in product(SINCE, (False, True)):
        for id, (lifetime, _) in cases.items():
            await storage.write_bytes(id, INLINE, **lifetime)
        if used:
            clock.advance(30)
            await asyncio.gather(*(_touch(storage, id, KEEP, 1) for id in cases))
        clock.advance(since)
        before = {id: await _record(storage, id) for id in cases}
        expected = {id: _touched(before[id], clock, ttl, every) for id, (_, ttl) in cases.items()}
        if together:
            async with holding(storage, 1):
                waiting = [
                    asyncio.create_task(_touch(storage, id, ttl, every)) for id, (_, ttl) in cases.items()
                ]
                await asyncio.sleep(0)
            found = dict(zip(cases, await asyncio.gather(*waiting), strict=True))
        else:
            found = {id: await _touch(storage, id, ttl, every) for id, (_, ttl) in cases.items()}
        assert found == {id: record if record is not before[id] else None for id, record in expected.items()}
        for id, record in expected.items():
            if record is not None:
                assert await _record(storage, id) == record
        await asyncio.gather(*map(storage.invalidate, cases))
        clock.advance(1)


@each_way
@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
async def test_a_touch_counts_although_its_session_changed_since_it_was_read(
    storage: SqlSessionStorage, clock: ManualClock, together: bool
) -> None:
    ids = ["small", "large", "ended", "expired"]
    for id in ids:
        await storage.write_bytes(id, INLINE, ttl=1000)
    read = {id: await _record(storage, id) for id in ids}
    clock.advance(100)
    await storage.write_bytes("small", b"new")
    await storage.write_bytes("large", LARGE)
    await storage.invalidate("ended")
    await storage.write_bytes("expired", INLINE, ttl=1)
    clock.advance(1)

    async def touch(id: str) -> Record | None:
        record = read[id]
        assert record is not None
        return await storage._repository.touch(digest(id), record, duration("ttl", 2000))

    if together:
        async with holding(storage, 1):
            waiting = [asyncio.create_task(touch(id)) for id in ids]
            await asyncio.sleep(0)
        touched = await asyncio.gather(*waiting)
    else:
        touched = [await touch(id) for id in ids]
    assert touched == [await _record(storage, "small"), await _record(storage, "large"), None, None]
    for id in ("small", "large"):
        info = await storage.info(id)
        assert info is not None
        assert info.used_at is not None
        assert info.expires_at == info.used_at + timedelta(seconds=2000)
    assert await storage.read_bytes("small") == b"new"
    assert await storage.read_bytes("large") == LARGE


def _touched(record: Record | None, clock: ManualClock, ttl: Any, every: int | None) -> Record | None:
    now = round(clock() * 1_000_000)
    if record is None or not record.live(now):
        return None
    return record.touched(now, _microseconds(ttl), duration("touch_every", every))


async def _touch(storage: SqlSessionStorage, id: str, ttl: Any, every: int | None) -> Record | None:
    operation = Touch(digest(id), _microseconds(ttl), duration("touch_every", every))
    found = await storage._repository._change(operation)
    return Record(*found[1:]) if found else None


async def _record(storage: SqlSessionStorage, id: str) -> Record | None:
    return await storage._repository.record(digest(id))


def _microseconds(ttl: Any) -> Any:
    return ttl if ttl is DEFAULT or ttl is KEEP else duration("ttl", ttl)


@pytest.mark.parametrize(
    "sql_url", ["postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "MySQL+asyncmy"], indirect=True
)
async def test_a_touch_that_was_lost_and_comes_late_changes_nothing(
    storage: SqlSessionStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.write_bytes("id", INLINE, ttl=1000)
    clock.advance(100)
    driver = storage._repository._executor._driver
    carry_out, lost = driver.write, list[Touch]()

    async def write(connection: Any, changes: Sequence[Operation]) -> list[Any]:
        if not lost:
            [touch] = changes
            assert isinstance(touch, Touch)
            lost.append(Touch(touch.digest, touch.ttl, touch.every))
            lost[0].begin(touch.now)
            raise ConnectionResetError
        return await carry_out(connection, changes)

    with monkeypatch.context() as patch:
        patch.setattr(driver, "write", write)
        touched = await storage.touch("id", ttl=3000)
    assert touched is not None
    assert touched.expires_at is not None
    assert touched.expires_at.timestamp() == pytest.approx(clock() + 3000, abs=1e-5)
    written = await storage.write_bytes("id", b"later", ttl=60)
    async with driver.checkout(writes=True) as connection:
        assert await driver.write(connection, lost) == [None]
    assert await storage.info("id") == written


@each_way
async def test_a_touch_by_a_clock_that_is_behind_counts(
    storage: SqlSessionStorage, sql_url: str, clock: ManualClock
) -> None:
    async with SqlSessionStorage(sql_url, clock=lambda: clock() + 10) as ahead:
        await ahead.write_bytes("id", INLINE, ttl=1000)
        await ahead.touch("id", ttl=2000)
    touched = await storage.touch("id", ttl=5000)
    assert touched == await storage.info("id")
    assert touched is not None
    assert touched.expires_at is not None
    assert touched.expires_at.timestamp() == pytest.approx(clock() + 5000, abs=1e-5)
