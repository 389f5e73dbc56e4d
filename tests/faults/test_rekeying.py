"""A new key for encrypted sessions while the service writes: `sqlsessions rekey` is killed, and run again."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import signal
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import EncryptedStorage, SqlSessionStorage
from sqlsessions.layers.ciphertext import KeyRing

from ..sql.support import query

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "sqlsessions")
OLD, NEW = b"o" * 32, b"n" * 32
SESSIONS = 100_000
WRITERS = 8
AT_ONCE = 64


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg"], indirect=True)
async def test_no_session_is_lost_or_left_under_the_old_key(sql_url: str) -> None:
    ids = [f"session {number}" for number in range(SESSIONS)]
    kept: dict[str, bytes] = {}
    async with EncryptedStorage(SqlSessionStorage(sql_url), [OLD]) as storage:
        await each(ids, lambda id: write(storage, id, b"first", kept))
    stop = asyncio.Event()
    async with EncryptedStorage(SqlSessionStorage(sql_url), [NEW, OLD]) as service:
        writers = [asyncio.create_task(writing(service, ids[n::WRITERS], kept, stop)) for n in range(WRITERS)]
        process = await rekeying(sql_url)
        while await under(sql_url, NEW) < SESSIONS // 4:
            await asyncio.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await under(sql_url, OLD) > 0
        process = await rekeying(sql_url)
        output, _ = await process.communicate()
        stop.set()
        writes = sum(await asyncio.gather(*writers))
    assert process.returncode == 0, output
    assert output.startswith(b"100,000 sessions, ")
    assert writes > WRITERS
    assert (await under(sql_url, OLD), await under(sql_url, NEW)) == (0, SESSIONS)
    print(f"{output.decode().strip()} by the second run, beside {writes:,} writes")  # noqa: T201 (shown with -s)
    async with EncryptedStorage(SqlSessionStorage(sql_url), [NEW]) as storage:

        async def read(id: str) -> None:
            assert await storage.read_bytes(id) == kept[id]

        await each(ids, read)


async def rekeying(url: str) -> asyncio.subprocess.Process:
    keys = ",".join(base64.b64encode(key).decode() for key in (NEW, OLD))
    environment = os.environ | {"SQLSESSIONS_URL": url, "SQLSESSIONS_KEYS": keys}
    return await asyncio.create_subprocess_exec(
        SCRIPT, "rekey", env=environment, stdout=asyncio.subprocess.PIPE
    )


async def under(url: str, key: bytes) -> int:
    """How many sessions are under a key."""
    name = KeyRing([key]).begin(b"\0" * 32)[0][4:12]
    [[number]] = await query(url, "SELECT count(*) FROM sessions WHERE substr(data, 5, 8) = :name", name=name)
    return int(number)


async def writing(
    storage: EncryptedStorage, ids: list[str], kept: dict[str, bytes], stop: asyncio.Event
) -> int:
    """Write sessions of one's own until told to stop, and note what was acknowledged."""
    writes, choice = 0, random.Random(ids[0])
    while not stop.is_set():
        id = choice.choice(ids)
        await write(storage, id, b"%d" % writes, kept)
        assert await storage.read_bytes(id) == kept[id]
        writes += 1
    return writes


async def write(storage: EncryptedStorage, id: str, data: bytes, kept: dict[str, bytes]) -> None:
    await storage.write_bytes(id, data)
    kept[id] = data


async def each(ids: list[str], work: Any) -> None:
    """Do something for each id, some at once."""
    for start in range(0, len(ids), AT_ONCE):
        await asyncio.gather(*map(work, ids[start : start + AT_ONCE]))
