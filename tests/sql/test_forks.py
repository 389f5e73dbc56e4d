"""A storage that was used before its process was forked: the child's writes are safe or refused, the parent's too."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage, StorageUnavailable, schema

from .support import NETWORK, TINY, sqlite

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

each_driver = pytest.mark.parametrize("sql_url", NETWORK, indirect=True)


def in_a_child(work: Callable[[], Awaitable[None]]) -> None:
    """Run something in an event loop of a process that is forked from this one."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(work())  # type: ignore[arg-type]
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


async def refused(storage: SqlSessionStorage, says: str) -> None:
    with pytest.raises(StorageUnavailable, match=says):
        await storage.write_bytes("child", b"data")
    with pytest.raises(StorageUnavailable, match=says):
        await storage.load("parent")


@each_driver
def test_a_child_opens_connections_of_its_own(sql_url: str) -> None:
    storage = SqlSessionStorage(sql_url, **TINY)
    loop = asyncio.new_event_loop()

    async def writes(name: str) -> None:
        for number in range(20):
            await storage.write_bytes(f"{name} {number}", b"data")
        await storage.write_bytes(name, b"large" * 100)

    async def child() -> None:
        await writes("child")
        assert await storage.read_bytes("parent 3") == b"data"
        await storage.aclose()

    loop.run_until_complete(writes("parent"))
    in_a_child(child)
    loop.run_until_complete(writes("parent again"))
    for name in ("parent", "child", "parent again"):
        assert loop.run_until_complete(storage.read_bytes(f"{name} 19")) == b"data"
        assert loop.run_until_complete(storage.read_bytes(name)) == b"large" * 100
    loop.run_until_complete(storage.aclose())
    loop.close()


@each_driver
def test_a_child_is_refused_the_connections_of_the_callers_engine(sql_url: str) -> None:
    engine = create_async_engine(sql_url)
    storage = SqlSessionStorage(engine, **TINY)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(storage.write_bytes("parent", b"data"))
    in_a_child(lambda: refused(storage, "make the engine after the fork"))
    assert loop.run_until_complete(storage.read_bytes("parent")) == b"data"
    loop.run_until_complete(engine.dispose())
    loop.close()


@sqlite
@pytest.mark.parametrize("new", [False, True], ids=["the same storage", "a new storage"])
def test_a_child_is_refused_a_file_that_its_parent_has_open(sql_url: str, new: bool) -> None:
    storage = SqlSessionStorage(sql_url, **TINY)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(storage.write_bytes("parent", b"data"))
    in_a_child(
        lambda: refused(SqlSessionStorage(sql_url) if new else storage, "close the storage before the fork")
    )
    assert loop.run_until_complete(storage.read_bytes("parent")) == b"data"
    loop.run_until_complete(storage.aclose())
    loop.close()


@sqlite
def test_a_storage_that_was_not_used_or_is_closed_serves_the_child(sql_url: str) -> None:
    storage, before = SqlSessionStorage(sql_url), SqlSessionStorage(sql_url)

    async def used() -> None:
        await before.write_bytes("parent", b"data")
        await before.aclose()

    async def child() -> None:
        await storage.write_bytes("child", b"data")
        await storage.aclose()

    async def both() -> None:
        assert await storage.read_bytes("child") == b"data"
        assert await storage.read_bytes("parent") == b"data"
        await storage.aclose()

    asyncio.run(used())
    in_a_child(child)
    asyncio.run(both())


@pytest.mark.parametrize("way", ["url", "engine"])
@pytest.mark.parametrize("what", ["deleted", "replaced"])
async def test_a_file_that_is_gone_is_noticed(tmp_path: Path, way: str, what: str) -> None:
    file, aside = tmp_path / "sessions.db", tmp_path / "aside.db"
    url = f"sqlite+aiosqlite:///{file}"
    await schema.upgrade(url)
    engine = create_async_engine(url)
    storage = SqlSessionStorage(engine if way == "engine" else url, **TINY)
    await storage.write_bytes("id", b"data")
    file.rename(aside)
    if what == "replaced":
        await schema.upgrade(url)
    for write in (
        lambda: storage.write_bytes("id", b"new"),
        lambda: storage.write_bytes("id", b"large" * 100),
        lambda: storage.invalidate("id"),
        lambda: storage.rotate("id", "new"),
        lambda: storage.revoke("ann"),
    ):
        with pytest.raises(StorageUnavailable, match=f"the file of the SQLite database was {what}"):
            await write()
    aside.rename(file)
    await storage.write_bytes("id", b"new")
    assert await storage.read_bytes("id") == b"new"
    await storage.aclose()
    await engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///file:x?mode=memory&cache=shared&uri=true",
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true",
        "sqlite:///file:/x?vfs=memdb&uri=true",
        "sqlite:///file:x?mode=memory&cache=shared",
    ],
)
async def test_a_named_database_in_memory_is_refused(url: str) -> None:
    says = "url names a database in memory"
    with pytest.raises(ValueError, match=says):
        SqlSessionStorage(url)
    for use in (schema.upgrade, schema.check, schema.create_tables, schema.current):
        with pytest.raises(ValueError, match=says):
            await use(url)
