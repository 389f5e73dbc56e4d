"""Storages in processes of their own: two on one file, and one that nobody closes."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing

from sqlalchemy import make_url

from sqlsessions import SqlSessionStorage
from sqlsessions.testing._base import PATIENCE

from .support import TINY, sqlite

WRITER = """
import asyncio, sys
from sqlsessions import SqlSessionStorage

async def main(url, name):
    async with SqlSessionStorage(url, inline_limit=100, chunk_size=100) as storage:
        async def count(number):
            for _ in range(10):
                await storage.write_bytes(f"{name} {number}", b"x" * (number * 40))
                snapshot = None
                while snapshot is None or snapshot.data != str(at + 1).encode():
                    snapshot = await storage.load("shared")
                    at = int(snapshot.data)
                    try:
                        await storage.write_bytes("shared", b"%d" % (at + 1), if_match=snapshot.info.version)
                    except Exception as error:
                        if type(error).__name__ != "SessionConflict":
                            raise
                        continue
                    break
        await asyncio.gather(*(count(number) for number in range(6)))

asyncio.run(main(*sys.argv[1:]))
"""


@sqlite
async def test_two_processes_on_one_sqlite_file_lose_nothing(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage:
        await storage.write_bytes("shared", b"0")
        writers = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, sql_url, name)
            for name in ("one", "two")
        ]
        async with asyncio.timeout(PATIENCE):
            assert [await writer.wait() for writer in writers] == [0, 0]
        assert await storage.read_bytes("shared") == b"120"
        for name in ("one", "two"):
            for number in range(6):
                assert await storage.read_bytes(f"{name} {number}") == b"x" * (number * 40)
    with closing(sqlite3.connect(str(make_url(sql_url).database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


FORGETFUL = """
import asyncio, sys
from sqlsessions import SqlSessionStorage
storage = SqlSessionStorage(sys.argv[1], inline_limit=100, chunk_size=100)

async def main():
    await asyncio.gather(*(storage.write_bytes(f"id {n}", b"x" * n * 40) for n in range(5)))
    assert await storage.read_bytes("id 4") == b"x" * 160

asyncio.run(main())
asyncio.run(main())
"""


def test_a_storage_that_nobody_closes_ends_quietly(sql_url: str) -> None:
    check_quiet_end(sql_url)


def test_a_storage_in_memory_that_nobody_closes_ends_quietly() -> None:
    check_quiet_end("sqlite://")


def check_quiet_end(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", FORGETFUL, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
