"""Rebindings: the first bytes of a session's data and its subject, changed without a write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sqlsessions import (
    CacheStorage,
    DelegatingStorage,
    ManagedSessionStorage,
    SessionConflict,
    SessionStorageMemory,
    SqlSessionStorage,
    UnsupportedOperation,
)
from sqlsessions.info import Rebinding
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import state

from .support import LARGE, TINY, chunk_rows, each_database

UPPER = Rebinding(3, bytes.upper, lambda subject: subject and subject.upper())
ACROSS = Rebinding(130, bytes.swapcase)
"""Of more bytes than a chunk holds."""

both_sizes = pytest.mark.parametrize("data", [b"abcdef", b"abcdef" + LARGE], ids=["small", "large"])


async def in_memory(storage: ManagedSessionStorage, data: bytes) -> None:
    """What every storage does."""
    written = await storage.write_bytes("id", data, subject="ann", ttl=100)
    await storage.load("id")
    moved = await storage.rotate_with("id", "new", UPPER)
    assert moved == replace(written, key=moved.key, subject="ANN")
    assert await state(storage, "new") == (b"ABC" + data[3:], moved)
    assert await storage.info("id") is None
    assert not await storage.rebind(moved.key, UPPER)
    assert await storage.rebind(moved.key, Rebinding(2, bytes.lower, lambda _: "bob"))
    assert await state(storage, "new") == (b"abC" + data[3:], replace(moved, subject="bob"))
    assert [info.key async for info in storage.sessions("bob")] == [moved.key]
    for key in (written.key, "no key"):
        assert not await storage.rebind(key, UPPER)


@both_sizes
@each_database
async def test_on_sql(sql_url: str, clock: ManualClock, data: bytes) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        await in_memory(storage, data)
        info = await storage.info("new")
        assert info is not None
        assert await storage.rebind(info.key, ACROSS)
        assert await storage.read_bytes("new") == (b"abC" + data[3:])[:130].swapcase() + data[130:]
        old = {version for version, seq in await chunk_rows(sql_url) if seq >= 0}
        assert old == ({info.version} if len(data) > 100 else set())


@both_sizes
@pytest.mark.parametrize("over", [DelegatingStorage, CacheStorage, lambda storage: storage])
async def test_in_memory_and_through_layers(
    clock: ManualClock, data: bytes, over: type[DelegatingStorage]
) -> None:
    await in_memory(over(SessionStorageMemory(clock=clock)), data)


def refuse(_: bytes) -> bytes:
    raise ZeroDivisionError


@both_sizes
@pytest.mark.parametrize("head", [refuse, lambda _: b"other size"])
@each_database
async def test_what_raises_changes_nothing(sql_url: str, data: bytes, head: type[bytes]) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        info = await storage.write_bytes("id", data)
        for call in (
            storage.rotate_with("id", "new", Rebinding(3, head)),
            storage.rebind(info.key, Rebinding(3, head)),
        ):
            with pytest.raises((ZeroDivisionError, ValueError)):
                await call
        assert await state(storage, "id") == (data, info)
        assert await storage.info("new") is None


async def test_a_rotation_to_a_taken_id_rebinds_nothing() -> None:
    for storage in (SessionStorageMemory(), SqlSessionStorage("sqlite://")):
        await storage.write_bytes("id", b"data")
        await storage.write_bytes("taken", b"data")
        with pytest.raises(SessionConflict):
            await storage.rotate_with("id", "taken", UPPER)
        assert await storage.read_bytes("id") == await storage.read_bytes("taken") == b"data"
        await storage.aclose()


async def test_a_storage_of_others_rotates_and_then_writes(clock: ManualClock) -> None:
    class Others(SessionStorageMemory):
        rotate_with = ManagedSessionStorage.rotate_with
        rebind = ManagedSessionStorage.rebind

    storage = Others(clock=clock)
    await storage.write_bytes("id", b"data", subject="ann")
    info = await storage.rotate_with("id", "new", UPPER)
    assert await state(storage, "new") == (b"DATa", info)
    assert info.subject == "ANN"
    assert await storage.info("id") is None
    with pytest.raises(UnsupportedOperation, match="Others does not offer rebind"):
        await storage.rebind(info.key, UPPER)
