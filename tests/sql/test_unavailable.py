"""What the database refuses, or cannot do, is one clear error of ours, with the driver's as its cause."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SchemaOutOfDate, SqlSessionStorage, StorageUnavailable
from sqlsessions.testing._base import PATIENCE, provider_of

from ..databases import open_files
from .support import INLINE, LARGE, NETWORK, TINY, each_database, holding, in_use, quiet, sqlite

CALLS: dict[str, Callable[[SqlSessionStorage], Awaitable[Any]]] = {
    "read": lambda s: s.read_bytes("id"),
    "load": lambda s: s.load("id"),
    "info": lambda s: s.info("id"),
    "write": lambda s: s.write_bytes("id", INLINE),
    "write if it is the version": lambda s: s.write_bytes("id", INLINE, if_match=5),
    "write large": lambda s: s.write("id", provider_of(LARGE)),
    "touch": lambda s: s.touch("id"),
    "rotate": lambda s: s.rotate("id", "new"),
    "invalidate": lambda s: s.invalidate("id"),
    "invalidate key": lambda s: s.invalidate_key("00" * 32),
    "sessions": lambda s: anext(s.sessions()),
    "sessions of a subject": lambda s: anext(s.sessions("ann")),
    "revoke": lambda s: s.revoke("ann"),
    "purge": lambda s: s.purge(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
SOME = ("read", "write", "write large", "touch", "purge")


async def refusal(storage: SqlSessionStorage, call: Callable[[SqlSessionStorage], Any]) -> StorageUnavailable:
    """The error of a call, which has a cause and gives neither id nor password away."""
    with pytest.raises(StorageUnavailable) as caught:
        async with asyncio.timeout(PATIENCE):
            await call(storage)
    assert caught.value.__cause__ is not None
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    return caught.value


@asynccontextmanager
async def threads_end() -> AsyncIterator[None]:
    """Wait for threads begun meanwhile: aiosqlite's, if it cannot connect, outlasts the attempt."""
    before = threading.active_count()
    yield
    async with asyncio.timeout(PATIENCE):
        while threading.active_count() > before:
            await asyncio.sleep(0.001)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("driver", NETWORK)
@pytest.mark.parametrize("call", SOME)
async def test_a_server_that_is_not_there_is_unavailable(driver: str, closed: int, call: str) -> None:
    url = f"{driver}://me:hunter2@127.0.0.1:{closed}/database"
    async with SqlSessionStorage(url, retry_for=0.1, **TINY) as storage:
        error = await refusal(storage, CALLS[call])
        assert "nothing takes connections at the URL's host and port" in str(error)


@pytest.mark.parametrize("driver", NETWORK)
async def test_a_host_that_has_no_address_is_unavailable(driver: str) -> None:
    async with SqlSessionStorage(f"{driver}://me@nowhere.invalid/database", retry_for=0, **TINY) as storage:
        error = await refusal(storage, CALLS["read"])
        assert "the URL's host has no address" in str(error)


@pytest.mark.parametrize("driver", NETWORK)
async def test_a_server_that_does_not_answer_is_unavailable(driver: str, silent: int) -> None:
    url = f"{driver}://me:hunter2@127.0.0.1:{silent}/database"
    async with SqlSessionStorage(url, connect_timeout=0.5, **TINY) as storage:
        await asyncio.gather(*(refusal(storage, CALLS[call]) for call in SOME))


@pytest.mark.parametrize("driver", NETWORK[:1])
async def test_the_callers_of_one_session_learn_at_once_that_the_server_is_away(
    driver: str, closed: int
) -> None:
    """And not each after trying for `retry_for` when its turn has come."""
    retries = 0

    class Observer:
        def batch(self, size: int, *, writes: bool) -> None:
            pass

        def retry(self, fault: str) -> None:
            nonlocal retries
            retries += 1

    async def first() -> int:
        await refusal(storage, CALLS["write"])
        return retries

    url = f"{driver}://me:hunter2@127.0.0.1:{closed}/database"
    async with SqlSessionStorage(url, retry_for=0.3) as storage:
        storage._database.observer = Observer()
        of_first = asyncio.create_task(first())
        await asyncio.gather(of_first, *(refusal(storage, CALLS["write"]) for _ in range(11)))
    assert of_first.result() > 1
    assert retries < 2 * of_first.result()


@pytest.mark.parametrize("driver", NETWORK[:1])
async def test_what_was_never_sent_to_a_silent_server_has_its_own_deadline(driver: str, silent: int) -> None:
    url = f"{driver}://me:hunter2@127.0.0.1:{silent}/database"
    options: dict[str, Any] = {"connect_timeout": 3.0, "operation_timeout": 0.3, "retry_for": 0.1}
    async with SqlSessionStorage(url, **options, **TINY) as storage:
        calls = [refusal(storage, CALLS[name]) for name in ("read", "write", "write", "invalidate", "touch")]
        errors = await asyncio.gather(*calls)
        assert storage._database.engines.state().tasks  # which still try to connect
        assert all("cannot be reached" in str(error) for error in errors)


@each_call
async def test_a_sqlite_file_that_cannot_be_made_is_unavailable(tmp_path: Path, call: Any) -> None:
    async with threads_end(), SqlSessionStorage(f"sqlite:///{tmp_path}/missing/sessions.db") as storage:
        assert "its folder has to be there" in str(await refusal(storage, call))


@each_call
async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path, call: Any) -> None:
    (tmp_path / "sessions.db").write_bytes(b"This is not a database." * 100)
    async with threads_end(), SqlSessionStorage(f"sqlite:///{tmp_path}/sessions.db") as storage:
        assert "the file is no SQLite database" in str(await refusal(storage, call))


@sqlite
async def test_a_lock_on_the_file_is_waited_for_by_a_batch_as_a_whole(sql_url: str) -> None:
    """Not by each of its operations in turn."""
    batches: list[int] = []

    class Observer:
        def batch(self, size: int, *, writes: bool) -> None:
            batches.append(size)

        def retry(self, fault: str) -> None:
            pass

    async with SqlSessionStorage(sql_url, busy_timeout=0.1, retry_for=0) as storage:
        await storage.write_bytes("id", INLINE)
        storage._database.observer = Observer()
        with closing(sqlite3.connect(sql_url.partition("///")[2], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = (storage.write_bytes(f"id {number}", INLINE) for number in range(40))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
        assert sum(batches) == 40
        await storage.write_bytes("id", INLINE)


@sqlite
async def test_a_read_only_database_can_be_read(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        await storage.write_bytes("id", INLINE)
        await storage.write_bytes("large", LARGE)
    path = sql_url.partition("///")[2]
    async with SqlSessionStorage(f"sqlite:///file:{path}?mode=ro&uri=true", **TINY) as storage:
        assert await storage.read_bytes("id") == INLINE
        assert await storage.read_bytes("large") == LARGE
        for name in ("write", "write large", "rotate", "invalidate"):
            assert "is not writable for this process" in str(await refusal(storage, CALLS[name]))


@sqlite
async def test_a_storage_that_is_closed_after_an_error_has_no_file_open(sql_url: str) -> None:
    url = make_url(sql_url)
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        await storage.write_bytes("id", INLINE)
    storage = SqlSessionStorage(f"sqlite:///file:{url.database}?mode=ro&uri=true", **TINY)
    gc.disable()
    try:
        for name in ("write", "write large", "rotate", "invalidate"):
            await refusal(storage, CALLS[name])
        await storage.aclose()
        assert open_files(url) == []
    finally:
        gc.enable()


@each_database
@each_call
async def test_an_exhausted_pool_is_unavailable(sql_url: str, call: Any) -> None:
    async with SqlSessionStorage(sql_url, pool_size=2, pool_timeout=0.2, **TINY) as storage:
        async with holding(storage, 2):
            assert "pool" in str(await refusal(storage, call))
        await storage.write_bytes("id", INLINE)
        assert await storage.read_bytes("id") == INLINE


@each_database
@pytest.mark.parametrize("size", [1, 2])
async def test_one_or_two_connections_are_enough(sql_url: str, size: int) -> None:
    """None stays where nobody uses it while somebody waits for it."""
    async with SqlSessionStorage(sql_url, pool_size=size, pool_timeout=PATIENCE / 2, **TINY) as storage:
        for data in (INLINE, LARGE):
            await storage.write_bytes("id", data)
            async with asyncio.timeout(PATIENCE):
                for _ in range(3):
                    await asyncio.gather(
                        *(storage.read_bytes("id") for _ in range(10)),
                        *(storage.info("id") for _ in range(10)),
                        *(storage.write_bytes(f"id {number}", data) for number in range(10)),
                        *(storage.touch("id", ttl=60 + number) for number in range(3)),
                    )
            assert await storage.read_bytes("id 9") == data


@each_call
async def test_without_tables_the_command_is_named(database_url: str, call: Any) -> None:
    engine = create_async_engine(database_url)
    async with (
        SqlSessionStorage(database_url, **TINY) as storage,
        SqlSessionStorage(engine, **TINY) as theirs,
    ):
        for one in (storage, theirs):
            with pytest.raises(SchemaOutOfDate, match="sqlsessions upgrade") as caught:
                await call(one)
            assert caught.value.__cause__ is not None
            await quiet(one)
            assert in_use(one) == 0
    await engine.dispose()


@each_call
async def test_a_closed_storage_is_unavailable(call: Any) -> None:
    storage = SqlSessionStorage("sqlite://", **TINY)
    await storage.write_bytes("id", INLINE)
    await storage.aclose()
    with pytest.raises(StorageUnavailable, match="closed"):
        await call(storage)
