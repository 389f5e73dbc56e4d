"""Hooks are told of just what became of sessions, and harm nothing."""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from typing import Any

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionStorageMemory, SqlSessionStorage
from sqlsessions.events import SessionEvent
from sqlsessions.testing import ManualClock

from ..faults.proxy import Proxy
from ..sql.support import each_server, in_use, reconnect
from .conftest import Create

SMALL, LARGE = b"small", b"large" * 200
sizes = pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
KINDS = ("created", "rotated", "invalidated", "expired")


def key(id: str) -> str:
    return sha256(id.encode()).hexdigest()


def hooks(seen: list[SessionEvent]) -> dict[str, Any]:
    """Hooks that remember what they are told, some of them async."""

    async def slowly(event: SessionEvent) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    return {
        "on_created": slowly,
        "on_rotated": seen.append,
        "on_invalidated": slowly,
        "on_expired": seen.append,
    }


@sizes
async def test_a_life_is_told_once_each_step(create: Create, data: bytes) -> None:
    seen: list[SessionEvent] = []
    async with create(**hooks(seen)) as storage:
        created = await storage.write_bytes("id", data, subject="ann")
        await storage.write_bytes("id", data)  # at the same instant, as the clock stands still
        await storage.write_bytes("id", data[::-1])
        await storage.touch("id", ttl=5)
        rotated = await storage.rotate("id", "new")
        await storage.invalidate("new")
        await storage.invalidate("new")
    assert seen == [
        SessionEvent("created", key("id"), created),
        SessionEvent("rotated", key("new"), rotated, key("id")),
        SessionEvent("invalidated", key("new")),
    ]


@sizes
async def test_only_what_lived_is_invalidated(create: Create, clock: ManualClock, data: bytes) -> None:
    seen: list[SessionEvent] = []
    async with create(**hooks(seen)) as storage:
        await storage.write_bytes("id", data, ttl=5)
        clock.advance(5)
        seen.clear()
        await storage.invalidate("id")
        assert not await storage.invalidate_key(key("id"))
        assert not seen
        info = await storage.write_bytes("id", data)
        assert seen == [SessionEvent("created", key("id"), info)]
        assert await storage.invalidate_key(key("id"))
        assert seen[1:] == [SessionEvent("invalidated", key("id"))]


async def test_revoking_tells_of_each_session(create: Create) -> None:
    seen: list[SessionEvent] = []
    async with create(**hooks(seen)) as storage:
        for number in range(6):
            await storage.write_bytes(f"{number}", SMALL if number % 2 else LARGE, subject="ann")
        await storage.write_bytes("bob's", SMALL, subject="bob")
        seen.clear()
        assert await storage.revoke("ann", keep="0") == 5
    assert {event.kind for event in seen} == {"invalidated"}
    assert sorted(event.key for event in seen) == sorted(key(f"{number}") for number in range(1, 6))


async def test_a_purge_tells_of_what_expired(clock: ManualClock) -> None:
    seen: list[SessionEvent] = []
    async with SessionStorageMemory(clock=clock, max_bytes=10, **hooks(seen)) as storage:
        await storage.write_bytes("a", b"12345", ttl=5)
        await storage.write_bytes("b", b"12345", ttl=500)
        clock.advance(5)
        seen.clear()
        assert await storage.purge() == 1
        assert seen == [SessionEvent("expired", key("a"))]
        clock.advance(500)
        seen.clear()
        await storage.write_bytes("c", b"1234567")  # has to make room
    assert [(event.kind, event.key) for event in seen] == [("expired", key("b")), ("created", key("c"))]


async def test_a_failing_hook_harms_nothing(create: Create, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: SessionEvent) -> None:
        raise ValueError(f"what is confidential {event.key}")

    async with create(on_created=fail, on_rotated=fail, on_invalidated=fail, on_expired=fail) as storage:
        info = await storage.write_bytes("id", SMALL, subject="ann")
        assert await storage.info("id") == info
        await storage.rotate("id", "new")
        assert await storage.read_bytes("new") == SMALL
        assert await storage.revoke("ann") == 1
        assert await storage.info("new") is None
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("sqlsessions", logging.ERROR)
    ] * 3
    for record, kind in zip(caplog.records, KINDS, strict=False):
        assert f"on_{kind} failed: ValueError" in record.getMessage()
        assert "in fail" in record.getMessage()  # the place, to mend it
        assert not record.exc_info
        assert key("id") not in record.getMessage()
        assert key("new") not in record.getMessage()


async def test_a_hook_holds_nothing_and_sees_what_is_committed(create: Create) -> None:
    async def look(event: SessionEvent) -> None:
        if isinstance(storage, SqlSessionStorage):
            assert in_use(storage) == 0
            assert not storage._database.engines.state().write_lock.locked()
        live = {info.key async for info in storage.sessions()}
        checked.append((event.key in live) == (event.kind in ("created", "rotated")))
        await storage.write_bytes("of the hook", SMALL, if_match=None)

    checked: list[bool] = []
    storage = create(on_rotated=look, on_invalidated=look)
    async with storage, asyncio.timeout(30):
        for data in (SMALL, LARGE):
            await storage.write_bytes("id", data)
            await storage.rotate("id", "new")
            await storage.invalidate("new")
    assert checked == [True] * 4


async def test_of_concurrent_writers_one_creates_and_of_enders_one_ends(create: Create) -> None:
    seen: list[SessionEvent] = []
    async with create(**hooks(seen)) as storage:
        await asyncio.gather(*(storage.write_bytes("id", b"%d" % number) for number in range(20)))
        await asyncio.gather(*(storage.invalidate("id") for _ in range(20)))
    assert [event.kind for event in seen] == ["created", "invalidated"]


@each_server
async def test_an_end_whose_answer_was_lost_is_told(sql_url: str, clock: ManualClock) -> None:
    seen: list[SessionEvent] = []
    lost = 0
    async with (
        Proxy.to(sql_url) as proxy,
        SqlSessionStorage(proxy.url, clock=clock, **hooks(seen)) as storage,
    ):
        for nth in range(1, 5):
            await storage.write_bytes("id", SMALL)
            await reconnect(storage)
            seen.clear()
            with proxy.losing("answer", nth):
                await storage.invalidate("id")
            lost += proxy.lost
            assert seen == [SessionEvent("invalidated", key("id"))]
    assert lost > 0


@pytest.mark.parametrize(
    "storage", [SessionStorageMemory, lambda **given: SqlSessionStorage("sqlite://", **given)]
)
def test_arguments_are_checked(storage: Any) -> None:
    with pytest.raises(InvalidArgumentType, match="on_created must be a function, not int"):
        storage(on_created=5)
    with pytest.raises(InvalidArgumentType, match="log_salt must be bytes"):
        storage(log_salt="x" * 20)
    with pytest.raises(InvalidArgument, match="log_salt must hold at least 16 bytes, not 3"):
        storage(log_salt=b"abc")
