"""Cancelling is safe at every step: nothing leaks, nothing is torn, nothing takes effect later."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import ByteReadChannel, ManagedSessionStorage, SessionConflict, SqlSessionStorage
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, provider_of, whole

from .stepping import cancelled_at, troubles
from .support import INLINE, TINY, age, each_database, holding, in_use, kind, query, quiet

State = tuple[bytes, str | None] | None
Call = Callable[[ManagedSessionStorage], Any]
LARGE, OTHER_LARGE = b"a" * 101, b"b" * 101
QUICK: dict[str, Any] = TINY | {"synchronous": "NORMAL"}

# What each call makes of the session "id" and of the session "new".
CALLS: dict[str, tuple[Call, bytes | None, bytes | None]] = {
    "write small": (lambda s: s.write_bytes("id", b"1"), b"1", None),
    "write large": (lambda s: s.write("id", provider_of(OTHER_LARGE)), OTHER_LARGE, None),
    "write new": (lambda s: s.write_bytes("new", b"1", if_match=0), b"old", b"1"),
    "touch": (lambda s: s.touch("id", ttl=5), b"old", None),
    "read": (lambda s: s.read("id", whole), b"old", None),
    "rotate": (lambda s: s.rotate("id", "new"), None, b"old"),
    "invalidate": (lambda s: s.invalidate("id"), None, None),
    "invalidate key": (lambda s: s.invalidate_key(sha256(b"id").hexdigest()), None, None),
    "revoke": (lambda s: s.revoke("ann"), None, None),
    "purge": (lambda s: s.purge(batch_size=1), b"old", None),
}


@pytest_asyncio.fixture
async def storage(sql_url: str, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=2, pool_timeout=5, **QUICK) as storage:
        yield storage


async def seen(storage: ManagedSessionStorage, id: str) -> bytes | None:
    snapshot = await storage.load(id)
    return None if snapshot is None else snapshot.data


@each_database
@pytest.mark.parametrize("old", [INLINE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_can_be_cancelled_at_every_step(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str, name: str, old: bytes
) -> None:
    call, new, new_other = CALLS[name]
    new, new_other = (old if data == b"old" else data for data in (new, new_other))
    async with troubles() as heard:
        for step in count(1):
            if name == "purge":  # let it have the same to do each time
                clock.advance(3600)
                await age(sql_url, 2 * 86_400)
                await storage.purge()
            await storage.write_bytes("id", old, subject="ann")
            await storage.invalidate("new")
            for expired in range(2):
                await storage.write_bytes(f"expired {expired}", old, ttl=1)
            clock.advance(2)
            cut = await cancelled_at(step, lambda: call(storage))
            # Either it took effect or it did not, and that does not change any more.
            at_once = await seen(storage, "id"), await seen(storage, "new")
            await quiet(storage)
            gc.collect(0)
            assert in_use(storage) == 0
            assert at_once in ((old, None), (new, new_other))
            assert (await seen(storage, "id"), await seen(storage, "new")) == at_once
            if not cut:
                break
    assert step > 2
    assert at_once == (new, new_other)
    assert heard == []


@each_database
@pytest.mark.parametrize(
    ("name", "old"), [("write small", LARGE), ("write large", INLINE), ("rotate", INLINE)]
)
async def test_what_was_abandoned_does_not_take_effect_after_what_was_acknowledged_later(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str, name: str, old: bytes
) -> None:
    call = CALLS[name][0]
    async with SqlSessionStorage(sql_url, clock=clock, **QUICK) as other:
        for step in count(1):
            await other.write_bytes("id", old)
            await other.invalidate("new")
            cut = await cancelled_at(step, lambda: call(storage))
            await other.write_bytes("id", b"later")
            await other.invalidate("new")
            await quiet(storage)
            assert (await seen(other, "id"), await seen(other, "new")) == (b"later", None)
            if not cut:
                break


@each_database
async def test_a_write_of_a_session_that_another_ended_can_be_cancelled_at_every_step(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    async def call() -> None:  # which goes out over a session first, and then where there is none
        await asyncio.gather(storage.write_bytes("id", b"1"), storage.invalidate("bystander"))

    async with SqlSessionStorage(sql_url, clock=clock, **QUICK) as other:
        for step in count(1):
            for id in ("id", "bystander"):
                await storage.write_bytes(id, INLINE)
            await other.invalidate("id")
            cut = await cancelled_at(step, call)
            at_once = await seen(storage, "id")
            await quiet(storage)
            assert at_once in (None, b"1")
            assert await seen(other, "id") == at_once
            if not cut:
                break
    assert step > 2
    assert at_once == b"1"


@each_database
@pytest.mark.parametrize("name", ["read", "rotate"])
async def test_cancelling_while_the_first_connection_is_made_leaks_none(
    sql_url: str, clock: ManualClock, name: str
) -> None:
    call, threads = CALLS[name][0], threading.active_count()
    async with SqlSessionStorage(sql_url, clock=clock, **QUICK) as control:
        async with troubles() as heard:
            for step in count(1):
                await control.write_bytes("id", INLINE)
                await control.invalidate("new")
                async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, **QUICK) as storage:
                    cut = await cancelled_at(step, lambda: call(storage))
                    async with asyncio.timeout(PATIENCE):
                        await storage.write_bytes("id", b"after")
                        assert await storage.read_bytes("id") == b"after"
                    await quiet(storage)
                    assert in_use(storage) == 0
                if not cut:
                    break
        # asyncpg's own complaint about a connection that was given up while it was made.
        assert [message for message in heard if "unexpected connection_lost" not in message] == []
    gc.collect()
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > threads or await connections(sql_url):
            await asyncio.sleep(0.01)


async def connections(url: str) -> int:
    """How many connections to a server's database there are besides the one that asks."""
    if kind(url) == "sqlite":
        return 0
    of = {
        "postgresql": "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mysql": "information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
    }
    [(number,)] = await query(url, f"SELECT count(*) FROM {of[kind(url)]}")
    return int(number)


@each_database
@pytest.mark.parametrize("name", CALLS)
async def test_who_waits_for_a_connection_can_leave_at_once(
    sql_url: str, clock: ManualClock, name: str
) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, **QUICK) as storage:
        await storage.write_bytes("id", INLINE)
        async with holding(storage, 1):
            waiting = asyncio.create_task(CALLS[name][0](storage))
            await asyncio.sleep(0.01)
            waiting.cancel()
            async with asyncio.timeout(5):  # the pool's own timeout is 30 seconds
                await asyncio.wait([waiting])
            assert waiting.cancelled()
        await quiet(storage)
        assert await storage.read_bytes("id") == INLINE


@each_database
async def test_a_conflict_is_not_lost_among_cancellations(storage: SqlSessionStorage) -> None:
    """Others' calls, made while one is being cancelled, come out as they should."""
    info = await storage.write_bytes("id", INLINE)
    for step in range(1, 30, 3):
        others = asyncio.gather(
            storage.read_bytes("id"),
            storage.write_bytes(f"other {step}", LARGE),
            storage.write_bytes("id", b"refused", if_match=info.version - 1),
            return_exceptions=True,
        )
        await cancelled_at(step, lambda: storage.write_bytes("gone", LARGE))
        data, written, refused = await others
        assert data == INLINE
        assert written == await storage.info(f"other {step}")
        assert isinstance(refused, SessionConflict)


@each_database
async def test_a_stream_read_by_a_task_that_outlives_the_consumer_is_closed_quietly(
    storage: SqlSessionStorage,
) -> None:
    await storage.write_bytes("id", LARGE)
    async with troubles() as heard:
        for steps in range(12):
            readers: list[asyncio.Task[bytes]] = []

            async def consumer(
                channel: ByteReadChannel, readers: list[asyncio.Task[bytes]] = readers, steps: int = steps
            ) -> None:
                readers.append(asyncio.create_task(channel.read()))
                for _ in range(steps):
                    await asyncio.sleep(0)

            await storage.read("id", consumer)
            readers[0].cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(readers)
            await quiet(storage)
            gc.collect(1)
            assert in_use(storage) == 0
    assert heard == []
