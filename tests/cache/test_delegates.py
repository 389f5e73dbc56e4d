"""What a cache wants of the storage beneath and of its own arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from sqlsessions import (
    CacheStorage,
    InvalidArgument,
    InvalidArgumentType,
    SessionNotFound,
    SessionStorageMemory,
    UnsupportedOperation,
)
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import listed, provider_of, whole

from .support import Plain, Recorder, by_pieces


async def test_a_plain_storage_has_the_verbs_and_their_byte_forms() -> None:
    plain = Plain()
    async with CacheStorage(plain) as cache:
        for data in (b"12345", b"", b"more"):
            await cache.write("id", provider_of(data[:2], data[2:]))
            assert plain.kept == {"id": data}
            assert await cache.read("id", whole) == await cache.read_bytes("id") == data
            await cache.write_bytes("id", data + b"!")
            assert await cache.read_bytes("id") == plain.kept["id"] == data + b"!"
        assert plain.reads == 0
        await cache.invalidate("id")
        for read in (cache.read_bytes("id"), cache.read("id", whole)):
            with pytest.raises(SessionNotFound):
                await read


async def test_a_plain_storage_is_cached_until_idle() -> None:
    plain, clock = Plain(), ManualClock()
    cache = CacheStorage(plain, idle_timeout=10, max_staleness=100, max_entry_bytes=6, clock=clock)
    plain.kept = {"id": b"fits", "large": b"too large"}
    for _ in range(3):
        assert await cache.read("id", by_pieces) == [b"fits"]
        clock.advance(9)
    assert plain.reads == 1
    clock.advance(1)
    assert await cache.read_bytes("id") == b"fits"
    assert plain.reads == 2
    assert await cache.read("large", by_pieces) == [b"too", b" la", b"rge"]
    assert await cache.read_bytes("large") == b"too large"
    assert cache.statistics.bytes == 4


async def test_a_repeated_write_to_a_plain_storage_is_written() -> None:
    plain = Plain()
    cache = CacheStorage(plain)
    await cache.write_bytes("id", b"data")
    plain.kept.clear()
    await cache.write_bytes("id", b"data")
    assert plain.kept == {"id": b"data"}


MANAGED: dict[str, Callable[[CacheStorage], Awaitable[Any]]] = {
    "load": lambda cache: cache.load("id"),
    "info": lambda cache: cache.info("id"),
    "touch": lambda cache: cache.touch("id"),
    "rotate": lambda cache: cache.rotate("id", "new"),
    "sessions": listed,
    "revoke": lambda cache: cache.revoke("ann"),
    "invalidate_key": lambda cache: cache.invalidate_key("00" * 32),
    "purge": lambda cache: cache.purge(),
    "write with ttl": lambda cache: cache.write_bytes("id", b"", ttl=5),
    "write with max_age": lambda cache: cache.write_bytes("id", b"", max_age=None),
    "write with subject": lambda cache: cache.write_bytes("id", b"", subject=None),
    "write with if_match": lambda cache: cache.write("id", provider_of(b""), if_match=0),
    "write with ttl, subject": lambda cache: cache.write_bytes("id", b"", ttl=5, subject="ann"),
}


@pytest.mark.parametrize("operation", MANAGED)
async def test_what_a_plain_storage_lacks_is_named(operation: str) -> None:
    plain = Plain()
    cache = CacheStorage(plain)
    await cache.write_bytes("id", b"data")
    with pytest.raises(UnsupportedOperation, match=f"^{operation} needs .* Plain "):
        await MANAGED[operation](cache)
    assert plain.kept == {"id": b"data"}
    assert await cache.read_bytes("id") == b"data"
    assert plain.reads == 0


async def test_closing_closes_the_delegate_and_drops_the_entries(delegate: Recorder) -> None:
    async with CacheStorage(delegate) as cache:
        await cache.write_bytes("id", b"data")
        assert delegate.closed == 0
    assert delegate.closed == 1
    assert (cache.statistics.entries, cache.statistics.bytes) == (0, 0)


async def test_caches_stack(delegate: Recorder) -> None:
    async with CacheStorage(CacheStorage(delegate)) as cache:
        await cache.write_bytes("id", b"data", ttl=5)
        await cache.invalidate("id")
        with pytest.raises(SessionNotFound):
            await cache.read_bytes("id")
    assert delegate.closed == 1


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (name, value, InvalidArgument)
        for name in ("idle_timeout", "max_staleness")
        for value in (0, -1, None, float("nan"), timedelta(0))
    ]
    + [
        (name, value, InvalidArgumentType)
        for name in ("idle_timeout", "max_staleness")
        for value in ("60", True)
    ]
    + [
        (name, value, InvalidArgument)
        for name in ("max_bytes", "max_entry_bytes", "max_entries")
        for value in (0, -5)
    ]
    + [
        (name, value, InvalidArgumentType)
        for name in ("max_bytes", "max_entry_bytes")
        for value in ("9", 1.5)
    ]
    + [("max_entries", None, InvalidArgumentType), ("max_bytes", None, InvalidArgumentType)],
)
def test_bad_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} "):
        CacheStorage(SessionStorageMemory(), **{name: value})


@pytest.mark.parametrize("delegate", ["sqlite://", None, SessionStorageMemory], ids=repr)
def test_a_delegate_that_is_no_storage_is_refused(delegate: Any) -> None:
    with pytest.raises(InvalidArgumentType, match=r"^delegate must be"):
        CacheStorage(delegate)
