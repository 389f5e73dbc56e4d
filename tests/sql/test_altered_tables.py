"""A migration that alters the tables of a service which runs: what its connections prepared is given up."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage, schema
from sqlsessions.testing._base import provider_of

from ..faults.servers.pgbouncer import pgbouncer
from .support import LARGE, TINY, query, reconnect

ALTERATIONS = [
    "ALTER TABLE sessions ALTER COLUMN size TYPE numeric",
    "ALTER TABLE sessions ALTER COLUMN subject TYPE text",
    "ALTER TABLE session_chunks ALTER COLUMN seq TYPE bigint",
    "ALTER TABLE sessions ADD COLUMN extra integer",
    "ALTER TABLE sessions ALTER COLUMN size TYPE bigint",
    "ALTER TABLE session_chunks ALTER COLUMN seq TYPE integer",
]
both = pytest.mark.parametrize("database_url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True)


async def use(storage: SqlSessionStorage, name: str) -> None:
    """Everything that a service does, on many connections at once and often enough to be prepared."""

    async def one(number: int) -> None:
        id = f"{name} {number}"
        info = await storage.write_bytes(id, b"small", subject=name)
        info = await storage.write_bytes(id, b"other", if_match=info.version)
        assert await storage.read_bytes(id) == b"other"
        await storage.write(id, provider_of(LARGE))
        assert await storage.read_bytes(id) == LARGE
        await storage.touch(id, ttl=10_000)
        await storage.rotate(id, f"{id} new")
        await storage.invalidate(f"{id} new")

    await asyncio.gather(*(one(number) for number in range(8)))
    assert [info async for info in storage.sessions(name)] == []
    await storage.revoke(name)
    await storage.purge()


@both
@pytest.mark.parametrize("way", ["url", "engine", "pooler"])
async def test_nothing_fails_after_a_table_was_altered(database_url: str, way: str) -> None:
    await schema.upgrade(database_url)
    if way == "pooler":
        with pgbouncer(database_url) as pooler:
            await _use_and_alter(SqlSessionStorage(pooler.by_way(database_url), **TINY), database_url)
    elif way == "engine":
        engine = create_async_engine(database_url)
        await _use_and_alter(SqlSessionStorage(engine, **TINY), database_url)
        await engine.dispose()
    else:
        await _use_and_alter(SqlSessionStorage(database_url, **TINY), database_url)


async def _use_and_alter(storage: SqlSessionStorage, url: str) -> None:
    async with storage:
        for _ in range(3):
            await use(storage, "before")
        for statement in ALTERATIONS:
            await query(url, statement)
            await use(storage, "after")


@both
async def test_a_table_may_be_altered_while_sessions_are_used(database_url: str) -> None:
    await schema.upgrade(database_url)
    async with SqlSessionStorage(database_url, **TINY) as storage:
        await use(storage, "before")
        done = asyncio.Event()

        async def working(name: str) -> int:
            rounds = 0
            while not done.is_set():
                await use(storage, f"{name} {rounds}")
                rounds += 1
            return rounds

        tasks = [asyncio.create_task(working(name)) for name in "ab"]
        for statement in ALTERATIONS:
            await query(database_url, statement)
        done.set()
        assert min(await asyncio.gather(*tasks)) > 0


@both
async def test_more_connections_than_there_is_patience(database_url: str) -> None:
    """Each connection of a large pool has prepared for itself, and is given up at once."""
    await schema.upgrade(database_url)
    async with SqlSessionStorage(database_url, pool_size=40, retry_for=5, **TINY) as storage:
        await use(storage, "before")
        await asyncio.gather(*(storage.write(f"id {number}", provider_of(LARGE)) for number in range(200)))
        await query(database_url, ALTERATIONS[0])
        await asyncio.gather(*(storage.write(f"id {number}", provider_of(LARGE)) for number in range(200)))
        await reconnect(storage)
        assert len([info async for info in storage.sessions()]) == 200
