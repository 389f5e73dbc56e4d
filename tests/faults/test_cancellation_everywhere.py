"""Cancelled at every step, every operation leaves the old or the new, no connection out, and no lock.

`tests/sql/test_cancellation.py` has the small operations on sessions; here are the others of the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    CacheStorage,
    ManagedSessionStorage,
    SqlSessionStorage,
    StorageUnavailable,
)
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, listed, provider_of, whole

from ..sql.stepping import cancelled_at, troubles
from ..sql.support import TINY, each_database, in_use, quiet

OLD, NEW, SMALL = b"a" * 450, b"b" * 350, b"small"
OPTIONS: dict[str, Any] = TINY | {"synchronous": "NORMAL"}


class ProviderFailed(Exception):
    pass


async def fails(channel: ByteWriteChannel) -> None:
    await channel.write(NEW)
    raise ProviderFailed


async def slowly(channel: ByteReadChannel) -> bytes:
    data = b""
    async for piece in channel:
        data += piece
        await asyncio.sleep(0)
    return data


async def write_and_fail(storage: ManagedSessionStorage) -> None:
    with suppress(ProviderFailed):
        await storage.write("id", fails)


async def write_if(storage: ManagedSessionStorage, data: bytes) -> None:
    info = await storage.info("id")
    assert info is not None
    await storage.write("id", provider_of(data), if_match=info.version)


# A call, and what it makes of the sessions "id", which holds OLD, and "new", which is not there.
CALLS: dict[str, tuple[Callable[[ManagedSessionStorage], Awaitable[Any]], bytes | None, bytes | None]] = {
    "info": (lambda s: s.info("id"), OLD, None),
    "load": (lambda s: s.load("id"), OLD, None),
    "read slowly": (lambda s: s.read("id", slowly), OLD, None),
    "read whole": (lambda s: s.read("id", whole), OLD, None),
    "write large if it is the version": (lambda s: write_if(s, NEW), NEW, None),
    "write small if it is the version": (lambda s: write_if(s, SMALL), SMALL, None),
    "write large if there is none": (
        lambda s: s.write("new", provider_of(NEW), if_match=0),
        OLD,
        NEW,
    ),
    "write and fail": (write_and_fail, OLD, None),
    "touch that writes": (lambda s: s.touch("id", ttl=10**7), OLD, None),
    "rotate large": (lambda s: s.rotate("id", "new"), None, OLD),
    "list": (lambda s: listed(s), OLD, None),
    "list a subject's": (lambda s: listed(s, "ann"), OLD, None),
    "revoke large": (lambda s: s.revoke("ann"), None, None),
}

QUICK = ("read slowly", "write large if it is the version", "write and fail", "rotate large")
each_call = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in CALLS]
)


async def seen(storage: ManagedSessionStorage) -> tuple[bytes | None, bytes | None]:
    found = [await storage.load(id) for id in ("id", "new")]
    return tuple(snapshot and snapshot.data for snapshot in found)  # type: ignore[return-value]


async def check(
    storage: ManagedSessionStorage, beneath: SqlSessionStorage, other: SqlSessionStorage, name: str
) -> None:
    """Cancel a call at each of its steps; `other`, over connections of its own, meets no lock."""
    call, new, new_other = CALLS[name]
    async with troubles() as heard:
        for step in count(1):
            await storage.write_bytes("id", OLD, subject="ann", ttl=10**6)
            await storage.invalidate("new")
            cut = await cancelled_at(step, lambda: call(storage))
            held = await seen(storage)
            assert held in ((OLD, None), (new, new_other))
            async with asyncio.timeout(PATIENCE):
                assert await seen(other) == held
                await other.write_bytes("id", OLD)  # locked by nobody
                await other.write_bytes("new", SMALL)
                await quiet(beneath)
            assert in_use(beneath) == 0
            if not cut:
                break
            await storage.invalidate("id")
    assert step > 2
    assert held == (new, new_other)
    assert heard == []


@each_database
@each_call
async def test_every_other_operation_can_be_cancelled_at_every_step(
    sql_url: str, clock: ManualClock, name: str
) -> None:
    async with (
        SqlSessionStorage(sql_url, clock=clock, pool_size=2, pool_timeout=5, **OPTIONS) as storage,
        SqlSessionStorage(sql_url, clock=clock, **OPTIONS) as other,
    ):
        await check(storage, storage, other, name)


@pytest.mark.long
@pytest.mark.parametrize("sql_url", ["postgresql+psycopg", "mysql+aiomysql"], indirect=True)
@pytest.mark.parametrize("name", CALLS)
async def test_so_it_can_with_the_other_drivers(sql_url: str, clock: ManualClock, name: str) -> None:
    async with (
        SqlSessionStorage(sql_url, clock=clock, pool_size=2, pool_timeout=5, **OPTIONS) as storage,
        SqlSessionStorage(sql_url, clock=clock, **OPTIONS) as other,
    ):
        await check(storage, storage, other, name)


@each_database
async def test_closing_can_be_cancelled_at_every_step(sql_url: str, clock: ManualClock) -> None:
    """It can be called again, and what was acknowledged is there."""
    async with SqlSessionStorage(sql_url, clock=clock, **OPTIONS) as other:
        for step in count(1):
            storage = SqlSessionStorage(sql_url, clock=clock, **OPTIONS)
            await storage.write_bytes("id", b"%d" % step)
            cut = await cancelled_at(step, storage.aclose)
            async with asyncio.timeout(PATIENCE):
                await storage.aclose()
            with pytest.raises(StorageUnavailable, match="closed"):
                await storage.read_bytes("id")
            assert await other.read_bytes("id") == b"%d" % step
            if not cut:
                break
        assert step > 1


@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite"], indirect=True)
@each_call
async def test_a_cache_over_it_knows_what_became_of_a_cancelled_call(
    sql_url: str, clock: ManualClock, name: str
) -> None:
    """What it serves afterwards is what the storage beneath has."""
    call, new, new_other = CALLS[name]
    beneath = SqlSessionStorage(sql_url, clock=clock, **OPTIONS)
    async with CacheStorage(beneath) as storage:
        for step in count(1):
            await storage.write_bytes("id", OLD, subject="ann", ttl=10**6)
            await storage.invalidate("new")
            await storage.load("id")  # so that it is cached
            cut = await cancelled_at(step, lambda: call(storage))
            async with asyncio.timeout(PATIENCE):
                await storage.write_bytes("later", SMALL)  # a commit in the background comes first
                await quiet(beneath)
            held = await seen(beneath)
            assert held in ((OLD, None), (new, new_other))
            assert await seen(storage) == held
            assert in_use(beneath) == 0
            if not cut:
                break
        assert step > 1  # what is cached is answered at the first
