"""Reads from a replica show what the storage wrote itself, however far the replica is behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import InvalidArgument, SqlSessionStorage, schema
from sqlsessions.testing._base import PATIENCE

from .servers.replicas import Replicated, replicated

Call = Callable[[SqlSessionStorage], Awaitable[Any]]
CHANGES: dict[str, tuple[Call, bytes | None]] = {
    "write": (lambda s: s.write_bytes("id", b"new"), b"new"),
    "large": (lambda s: s.write_bytes("id", b"new" * 100), b"new" * 100),
    "conditional": (lambda s: _conditional(s), b"new"),
    "invalidate": (lambda s: s.invalidate("id"), None),
    "revoke": (lambda s: s.revoke("ann"), None),
    "rotate": (lambda s: s.rotate("id", "other"), None),
}


async def _conditional(storage: SqlSessionStorage) -> None:
    info = await storage.info("id")
    assert info is not None
    await storage.write_bytes("id", b"new", if_match=info.version)


@pytest.fixture(scope="module")
def servers() -> Iterator[Replicated]:
    with replicated() as servers:
        yield servers


@pytest_asyncio.fixture(params=["asyncpg", pytest.param("psycopg", marks=pytest.mark.long)])
async def storage(servers: Replicated, request: pytest.FixtureRequest) -> AsyncIterator[SqlSessionStorage]:
    urls = await asyncio.to_thread(servers.create_database)
    url, read_url = (each.replace("postgresql://", f"postgresql+{request.param}://") for each in urls)
    await schema.upgrade(url)
    async with SqlSessionStorage(url, read_url=read_url, inline_limit=100, chunk_size=100) as storage:
        await storage.write_bytes("id", b"old", subject="ann")
        await asyncio.to_thread(servers.catch_up)
        await unpinned(storage)
        yield storage
    await asyncio.to_thread(servers.resume_replay)


async def unpinned(storage: SqlSessionStorage) -> None:
    assert storage._replica is not None
    async with asyncio.timeout(PATIENCE):
        while storage._replica._pins:
            await asyncio.sleep(0.01)


async def data(storage: SqlSessionStorage) -> bytes | None:
    snapshot = await storage.load("id")
    return None if snapshot is None else snapshot.data


@pytest.mark.parametrize("name", CHANGES)
async def test_what_it_wrote_itself_is_seen_at_once(
    storage: SqlSessionStorage, servers: Replicated, name: str
) -> None:
    call, expected = CHANGES[name]
    await asyncio.to_thread(servers.pause_replay)
    await call(storage)
    for _ in range(5):
        assert await data(storage) == expected
        await asyncio.sleep(0.06)  # it looks meanwhile how far the replica is
    await asyncio.to_thread(servers.resume_replay)
    await unpinned(storage)
    assert await data(storage) == expected


async def test_reads_do_go_to_the_replica(storage: SqlSessionStorage, servers: Replicated) -> None:
    """What another process writes is not seen there while the replica is behind."""
    await asyncio.to_thread(servers.pause_replay)
    async with SqlSessionStorage(storage._database.url) as other:
        await other.write_bytes("id", b"theirs")
        await other.write_bytes("another", b"theirs")
    assert await data(storage) == b"old"
    assert await storage.read_bytes("another") == b"theirs"  # what is not there is looked for on the primary
    info = await storage.info("id")
    assert info is not None
    assert info.size == len(b"theirs")
    await asyncio.to_thread(servers.resume_replay)
    assert await data(storage) == b"theirs"


async def test_without_the_replica_the_primary_is_read(
    storage: SqlSessionStorage, servers: Replicated
) -> None:
    await asyncio.to_thread(servers.replica.kill)
    try:
        assert await data(storage) == b"old"
        assert storage._replica is not None
        assert storage._replica._away  # asked once, and not again before it is known to be back
        await storage.write_bytes("id", b"new")
        assert await data(storage) == b"new"
    finally:
        await asyncio.to_thread(servers.replica.start)
    await unpinned(storage)
    assert await data(storage) == b"new"


def test_only_postgresql_has_replicas() -> None:
    with pytest.raises(InvalidArgument, match="read_url needs a PostgreSQL"):
        SqlSessionStorage("sqlite://", read_url="sqlite:///replica.db")
