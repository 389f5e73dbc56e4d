"""SQLite: a full disk, I/O errors, a read-only file system, a lock of somebody else, a loss of power."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage, schema

from ..sql.support import in_use, quiet
from .disks import disk, failing, full_disk
from .ledger import Ledger
from .load import Load
from .rounds import LONG
from .rounds import rounds as few_or_many
from .worker import Service

NAMES = [f"slot-{number}" for number in range(16)]
OPTIONS: dict[str, Any] = {
    "inline_limit": 16_384,
    "chunk_size": 16_384,
    "busy_timeout": 0.1,
    "retry_for": 0.2,
}
ATTEMPTS = 3


async def made(folder: Path) -> str:
    url = f"sqlite+aiosqlite:///{folder}/sessions.db"
    await schema.upgrade(url)
    return url


async def verified(url: str, ledger: Ledger) -> None:
    """Everything is as callers were told, for a new storage, and the file is whole."""
    async with SqlSessionStorage(url, **OPTIONS) as storage:
        await ledger.verify(storage)
    with closing(sqlite3.connect(url.partition(":///")[2])) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@asynccontextmanager
async def loaded(url: str, ledger: Ledger) -> AsyncIterator[Load]:
    async with SqlSessionStorage(url, **OPTIONS) as storage:
        load = Load(storage, ledger)
        load.start(NAMES)
        yield load
        await load.stop()
        await quiet(storage)
        assert in_use(storage) == 0


async def refused(ledger: Ledger, number: int = 20) -> None:
    """Wait until callers have seen some errors."""
    wanted = ledger.errors.total() + number
    async with asyncio.timeout(60):
        while ledger.errors.total() < wanted:
            await asyncio.sleep(0.005)


@few_or_many(1, LONG // 5)
@pytest.mark.timeout(600)
async def test_a_full_disk_is_an_error_until_there_is_room(tmp_path: Path, rounds: int, reports: Any) -> None:
    report, ledger = reports("the disk is full", "sqlite"), Ledger()
    with full_disk(tmp_path / "small", 24) as folder:
        url = await made(folder)
        async with loaded(url, ledger) as load:
            for _ in range(rounds):
                await load.until(50)
                with suppress(OSError), (folder / "ballast").open("wb") as ballast:
                    while True:
                        ballast.write(b"x" * 4096)
                        ballast.flush()
                await refused(ledger)
                (folder / "ballast").unlink()
                there_is_room = time.monotonic()
                await load.until(1)
                report.recovery.append(time.monotonic() - there_is_room)
                report.rounds += 1
            await load.until(50)
        await verified(url, ledger)
    report.add(ledger)
    report.check()


@few_or_many(2, LONG)
@pytest.mark.timeout(600)
async def test_a_lock_of_somebody_else_is_waited_for_or_an_error(
    tmp_path: Path, rounds: int, reports: Any
) -> None:
    report, ledger = reports("locked by another", "sqlite"), Ledger()
    url = await made(tmp_path)
    async with loaded(url, ledger) as load:
        for _ in range(rounds):
            await load.until(50)
            with closing(
                sqlite3.connect(url.partition(":///")[2], isolation_level=None, check_same_thread=False)
            ) as other:
                await asyncio.to_thread(_lock, other)
                await refused(ledger, 5)
                other.execute("ROLLBACK")
                free = time.monotonic()
                await load.until(1)
                report.recovery.append(time.monotonic() - free)
            report.rounds += 1
    await verified(url, ledger)
    report.add(ledger)
    report.check()


def _lock(connection: sqlite3.Connection) -> None:
    """Keep trying, as the load leaves the file free for moments only."""
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            continue
        return


@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("fsync,fdatasync", "EIO"),
        pytest.param("pwrite64", "EIO", marks=pytest.mark.long),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EROFS"),
        pytest.param("pread64", "EIO", marks=pytest.mark.long),
    ],
    ids=["fsync-EIO", "write-EIO", "write-ENOSPC", "write-EROFS", "read-EIO"],
)
@few_or_many(1, LONG // 5)
@pytest.mark.timeout(600)
async def test_failing_system_calls_are_errors_until_they_work_again(
    tmp_path: Path, calls: str, error: str, rounds: int, reports: Any
) -> None:
    report, ledger = reports(f"{error} from {calls}", "sqlite"), Ledger()
    url = await made(tmp_path)
    async with Service.started(url, ledger, NAMES, **OPTIONS) as service:
        for _ in range(rounds):
            await service.until(50)
            async with failing(service.process.pid, calls, error):
                await asyncio.sleep(0.5)
            well = time.monotonic()
            await service.until(1)
            report.recovery.append(service.last - well)
            report.rounds += 1
        await service.until(50)
        await service.stopped()
    await verified(url, ledger)
    report.add(ledger)
    report.check()


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@few_or_many(1, LONG // 5)
@pytest.mark.timeout(900)
async def test_a_loss_of_power_takes_back_nothing_with_full(
    tmp_path: Path, synchronous: str, rounds: int, reports: Any
) -> None:
    """With NORMAL it may take back the last commits, but leaves the file whole, and no session torn."""
    report, ledger = reports(f"power is lost, synchronous={synchronous}", "sqlite"), Ledger()
    options = OPTIONS | {"synchronous": synchronous}
    with disk(tmp_path) as power:
        url = await made(power.path)
        for number in range(rounds):
            async with Service.started(url, ledger, NAMES, seed=number, **options) as service:
                await service.until(200)
                power.cut_power()
                await service.killed()
            power.unmount()
            power.mount()
            await verified(url, ledger)
            report.rounds += 1
    report.add(ledger)
    if synchronous == "NORMAL":
        report.fault += f" (it may lose; lost {report.violations.total() - report.violations['torn']})"
        report.violations = +Counter(torn=report.violations["torn"])
    report.check()


@few_or_many(1, 5)
@pytest.mark.timeout(300)
async def test_four_processes_at_once_lose_nothing(tmp_path: Path, rounds: int, reports: Any) -> None:
    report, ledger = reports("four processes at once", "sqlite"), Ledger()
    url = await made(tmp_path)
    options = OPTIONS | {"busy_timeout": 10}
    for number in range(rounds):
        async with AsyncExitStack() as stack:
            services = [
                await stack.enter_async_context(
                    Service.started(
                        url, ledger, [f"process-{one}-{n}" for n in range(6)], seed=number, **options
                    )
                )
                for one in range(4)
            ]
            for service in services:
                await service.until(100)
            for service in services:
                await service.stopped()
        await verified(url, ledger)
        report.rounds += 1
    report.add(ledger)
    report.check()
