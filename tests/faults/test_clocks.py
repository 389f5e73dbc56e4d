"""The clock jumps, forwards and backwards."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage
from sqlsessions.testing import ManualClock

from ..sql.support import each_database
from .ledger import Ledger
from .load import PATIENCE, Load
from .worker import ROOT

HOUR = 3600
JUMPS = [5, -5, 2 * HOUR, -HOUR, 9 * HOUR, -12 * HOUR, 0.001, -0.001, 30 * HOUR, -20 * HOUR]
NAMES = [f"slot-{number}" for number in range(12)]
LIMITS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384}


@each_database
async def test_jumps_under_load_lose_nothing(sql_url: str, reports: Any) -> None:
    report, ledger = reports("the clock jumps", sql_url.partition(":")[0]), Ledger()
    clock = ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, ttl=None, **LIMITS) as storage:
        load = Load(storage, ledger)
        load._touch = load._read  # type: ignore[method-assign]  # a touch would set an end that the jumps pass
        # No purge under way: a write that is staged for more than a day, by this clock, is given up.
        load.start(NAMES, housekeeping=False)
        for jump in JUMPS:
            clock.advance(jump)
            await load.until(25)
            report.rounds += 1
        await load.stop()
        await ledger.verify(storage)
    report.add(ledger)
    report.check()


@each_database
async def test_versions_increase_and_a_touch_never_shortens(sql_url: str) -> None:
    clock, random_jumps = ManualClock(), random.Random(1)
    async with SqlSessionStorage(sql_url, clock=clock, ttl=14 * 24 * HOUR, **LIMITS) as storage:
        before = await storage.write_bytes("id", b"0")
        for number in range(60):
            clock.advance(random_jumps.choice(JUMPS))
            if number % 3:
                touched = await storage.touch("id")
                assert touched is not None
                assert touched.expires_at is not None
                assert before.expires_at is not None
                assert touched.expires_at >= before.expires_at
                assert touched.version == before.version
                before = touched
            else:
                written = await storage.write_bytes("id", b"%d" % number, if_match=before.version)
                assert written.version > before.version
                before = written


@each_database
async def test_what_expired_in_a_jump_is_back_after_it_unless_it_was_purged(sql_url: str) -> None:
    clock = ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, ttl=HOUR) as storage:
        for id in ("kept", "purged"):
            await storage.write_bytes(id, id.encode())
        clock.advance(2 * HOUR)
        assert await storage.load("kept") is None
        clock.advance(-2 * HOUR)
        assert await storage.read_bytes("kept") == b"kept"
        await storage.write_bytes("kept", b"kept", ttl=3 * HOUR)
        clock.advance(2 * HOUR)
        assert await storage.purge() == 1
        clock.advance(-2 * HOUR)
        assert await storage.load("purged") is None
        assert await storage.read_bytes("kept") == b"kept"


SERVICE = """
import sys, time
from pathlib import Path

real, offset = time.time, Path(sys.argv[2])
time.time = lambda: real() + float(offset.read_text())  # before anybody has imported it

import asyncio
from sqlsessions import SqlSessionStorage

async def main(url):
    async with SqlSessionStorage(url, ttl=None, inline_limit=100, chunk_size=100) as storage:
        version = (await storage.write_bytes("id", b"0")).version
        for line in sys.stdin:
            for number in range(20):
                info = await storage.write_bytes("id", b"x" * number * 20, if_match=version)
                assert info.version > version, "a version went back"
                version = info.version
                assert await storage.read_bytes("id") == b"x" * number * 20
                await storage.write_bytes(f"other {number}", b"y" * 500)
            await storage.touch("id")
            print(time.time(), flush=True)

asyncio.run(main(sys.argv[1]))
"""


@each_database
@pytest.mark.timeout(120)
async def test_a_process_whose_clock_jumps_goes_on(sql_url: str, tmp_path: Path, reports: Any) -> None:
    """With the time that all of the process's Python code is told, the drivers' too.

    Not with libfaketime, under which to hand work to a thread takes asyncio tenths of a second at times.
    """
    report = reports("the process's clock jumps", sql_url.partition(":")[0])
    offset = tmp_path / "offset"
    offset.write_text("0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", SERVICE, sql_url, str(offset)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        for jump in (0, 7 * HOUR, -5 * HOUR, 30 * HOUR, -30 * HOUR, 1, -1):
            offset.write_text(str(jump))
            process.stdin.write(b"go\n")
            told = float(await process.stdout.readline())
            assert abs(told - time.time() - jump) < 60  # the clock has indeed jumped
            report.rounds += 1
            report.acknowledged += 40
        process.stdin.close()
        assert await process.wait() == 0
    async with SqlSessionStorage(sql_url, **LIMITS) as storage:
        assert await storage.read_bytes("id") == b"x" * 380
    report.check()
