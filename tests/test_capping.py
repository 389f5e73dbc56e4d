"""The most live sessions of a subject: counted exactly, whichever process writes them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sqlsessions import (
    CacheStorage,
    EncryptedStorage,
    InvalidArgument,
    KeepsEnded,
    ManagedSessionStorage,
    SessionConflict,
    SessionStorageMemory,
    SqlSessionStorage,
    TooManySessions,
)
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, listed

DATABASES = ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy", "MySQL+asyncmy"]
each_database = pytest.mark.parametrize("sql_url", DATABASES, indirect=True)
LARGE = bytes(500)


class Client:
    """A storage with a bound, and what its hooks were told."""

    def __init__(self, url: str, **options: Any) -> None:
        self.clock, self.ended = ManualClock(), list[str]()
        options |= {"on_invalidated": lambda event: self.ended.append(event.key), "clock": self.clock}
        storage: ManagedSessionStorage
        if url == "memory":
            storage = SessionStorageMemory(**options)
        else:
            storage = SqlSessionStorage(url, inline_limit=100, chunk_size=100, **options)
        self.storage = CacheStorage(storage, max_staleness=1000)

    async def login(self, id: str, subject: str | None = "ann", data: bytes = b"data", **options: Any) -> str:
        self.clock.advance(1)
        info = await self.storage.write_bytes(id, data, subject=subject, **options)
        await self.storage.load(id)  # into the cache
        return info.key

    async def ids(self) -> list[str]:
        """Which sessions there are, as the cache has it and as the list has it."""
        names = [f"id {number}" for number in range(6)]
        found = {name: snapshot.info.key for name in names if (snapshot := await self.storage.load(name))}
        assert sorted(found.values()) == [info.key for info in await listed(self.storage)]
        return list(found)


async def the_oldest_end(url: str) -> None:
    client = Client(url, max_sessions_per_subject=2)
    async with client.storage as storage:
        assert storage.max_sessions_per_subject == 2
        keys = [await client.login("id 0"), await client.login("id 1", data=LARGE)]
        await client.login("id 2", subject="bob")
        await client.login("id 0")  # which it has already
        await storage.write_bytes("id 0", b"more")
        assert client.ended == []
        keys.append(await client.login("id 3", data=LARGE))
        assert client.ended == keys[:1]
        assert await client.ids() == ["id 1", "id 2", "id 3"]
        with pytest.raises(SessionConflict):
            await client.login("id 4", if_match=5)
        assert client.ended == keys[:1]
        await client.login("id 2")  # bob's before
        assert client.ended == keys[:2]
        assert await client.ids() == ["id 2", "id 3"]
        await client.login("id 4", subject=None)
        await client.login("id 5", subject="ann ")
        assert await client.ids() == ["id 2", "id 3", "id 4", "id 5"]


async def one_more_is_refused(url: str) -> None:
    client = Client(url, max_sessions_per_subject=2, when_too_many="refuse", ttl=100)
    async with client.storage as storage:
        await client.login("id 0")
        await client.login("id 1")
        await client.login("id 1", data=LARGE)
        await client.login("id 2", subject=None)
        for id, data in (("id 3", b"data"), ("id 3", LARGE), ("id 2", b"data")):
            with pytest.raises(TooManySessions, match="2 live sessions") as caught:
                await client.login(id, data=data)
            assert caught.value.limit == 2
        assert await client.ids() == ["id 0", "id 1", "id 2"]
        assert await storage.read_bytes("id 2") == b"data"
        await storage.invalidate("id 0")
        await client.login("id 3")
        client.clock.advance(100)
        await client.login("id 4")
        await client.login("id 5")
        assert await client.ids() == ["id 4", "id 5"]


async def what_is_no_users_is_neither_counted_nor_recorded(url: str) -> None:
    client = Client(url, max_sessions_per_subject=2, keep_ended=1000)
    async with client.storage as storage:
        hiding = EncryptedStorage(storage, [os.urandom(32)], encrypt_subjects=True)
        for number in range(3):
            await client.login(f"id {number}", subject="\x1four values")
            await hiding.write_bytes(f"hidden {number}", b"data", subject="\x1four values")
        assert client.ended == []
        await storage.invalidate("id 0")
        await asyncio.gather(storage.invalidate("id 1"), hiding.invalidate("hidden 1"))
        client.ended.clear()
        assert await hiding.revoke("\x1four values") == 3
        assert isinstance(storage, KeepsEnded)
        assert [each async for each in storage.ended()] == []


behaviours = pytest.mark.parametrize(
    "behaviour",
    [the_oldest_end, one_more_is_refused, what_is_no_users_is_neither_counted_nor_recorded],
    ids=lambda each: each.__name__,
)


@behaviours
async def test_in_memory(behaviour: Callable[[str], Awaitable[None]]) -> None:
    await behaviour("memory")


@behaviours
@each_database
async def test_in_a_database(sql_url: str, behaviour: Callable[[str], Awaitable[None]]) -> None:
    await behaviour(sql_url)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"max_sessions_per_subject": 0}, "max_sessions"), ({"when_too_many": "end"}, "when_too_many")],
)
@pytest.mark.parametrize(
    "make", [SessionStorageMemory, lambda **options: SqlSessionStorage("sqlite://", **options)]
)
def test_what_bounds_nothing_is_refused(make: Callable[..., Any], options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        make(**options)


LOGINS = """
import asyncio, sys
from sqlsessions import SqlSessionStorage

async def main(url, name):
    async with SqlSessionStorage(url, pool_timeout=60, max_sessions_per_subject=5, retry_for=30) as storage:
        sys.stdin.read(1)
        await asyncio.gather(*(storage.write_bytes(f"{name} {n}", b"data", subject="ann") for n in range(16)))

asyncio.run(main(*sys.argv[1:]))
"""


@each_database
async def test_of_64_logins_by_four_processes_no_more_than_five_live(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", LOGINS, sql_url, str(number), stdin=asyncio.subprocess.PIPE
            )
            for number in range(4)
        ]
        ends = [asyncio.create_task(process.communicate(b"x")) for process in processes]
        seen = []
        async with asyncio.timeout(2 * PATIENCE):
            while not all(end.done() for end in ends):
                seen.append(len(await listed(storage, "ann")))
                await asyncio.sleep(0.005)
        assert [process.returncode for process in processes] == [0, 0, 0, 0]
        assert max(seen) <= 5
        assert len(await listed(storage, "ann")) == 5
