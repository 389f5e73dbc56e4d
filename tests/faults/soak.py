"""A long mixed load with faults: `python -m tests.faults.soak --seconds 1200`.

On a PostgreSQL server of its own, behind a proxy, and on a SQLite file beside it. Every few seconds something
breaks: connections are reset or drop what they are sent, the server is killed and started again, callers
are cancelled. Memory, file descriptors, threads, tasks and connections are looked at all the while.
It fails if any of these grows, or if anything acknowledged was lost, torn or came back.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import random
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sqlsessions import SqlSessionStorage, schema

from ..sql.support import quiet
from .ledger import Ledger
from .load import Load
from .proxy import Proxy
from .reports import Report, table
from .rounds import connections
from .servers.postgres import postgres_server

NAMES = [f"slot-{number}" for number in range(16)]
OPTIONS: dict[str, Any] = {"inline_limit": 16_384, "chunk_size": 16_384, "operation_timeout": 2}
LEEWAY = 8 * 1024 * 1024
COUNTED = ("descriptors", "threads", "tasks", "connections")


@dataclass
class Sample:
    """What the process uses at a time, when no fault is under way."""

    seconds: float
    memory: int
    descriptors: int
    threads: int
    tasks: int
    connections: int


class Soak:
    """The load, the faults and the watch.

    Args:
        seconds: How long.
        pause: Seconds between faults.
    """

    def __init__(self, seconds: float, pause: float) -> None:
        self._seconds = seconds
        self._pause = pause
        self._random = random.Random(1)
        self._process = psutil.Process()
        self.samples: list[Sample] = []
        self.reports: list[Report] = []

    async def run(self) -> None:
        """Run it."""
        with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
            direct = "postgresql+asyncpg://" + server.create_database().partition("://")[2]
            local = f"sqlite+aiosqlite:///{Path(folder)}/sessions.db"
            for url in (direct, local):
                await schema.upgrade(url)
            async with AsyncExitStack() as stack:
                proxy = await stack.enter_async_context(Proxy.to(direct))
                loads = {}
                for url, verified in ((proxy.url, direct), (local, local)):
                    storage = await stack.enter_async_context(SqlSessionStorage(url, **OPTIONS))
                    loads[verified] = Load(storage, Ledger(), large=100_000)
                report = Report("soak", "postgresql, sqlite")
                faults: dict[str, Callable[[], Awaitable[None]]] = {
                    "reset": self._at_once(proxy.cut),
                    "half-open": self._at_once(lambda: proxy.drop(half_open=True)),
                    "drop": self._at_once(proxy.drop),
                    "swallow": self._at_once(lambda: setattr(proxy, "swallowing", "reset")),
                    "refuse": self._at_once(lambda: setattr(proxy, "refusing", True)),
                    "kill": lambda: self._kill(server, proxy),
                    "cancel": lambda: self._cancel(loads),
                }
                for load in loads.values():
                    load.start(NAMES)
                began = time.monotonic()
                for name in itertools.cycle(faults):
                    if time.monotonic() - began > self._seconds:
                        break
                    await faults[name]()
                    await asyncio.sleep(0.5)
                    proxy.heal()
                    healed = time.monotonic()
                    await next(iter(loads.values())).until(1)
                    report.recovery.append(time.monotonic() - healed)
                    report.rounds += 1
                    await asyncio.sleep(self._pause)
                    await self._sample(time.monotonic() - began, direct)
                for url, load in loads.items():
                    await load.stop()
                    await load.storage.invalidate("cancelled")
                    await quiet(load.storage)  # type: ignore[arg-type]
                    async with SqlSessionStorage(url, **OPTIONS) as storage:
                        await load.ledger.verify(storage)
                    report.add(load.ledger)
                self.reports.append(report)

    @staticmethod
    def _at_once(fault: Callable[[], object]) -> Callable[[], Awaitable[None]]:
        async def cause() -> None:
            fault()

        return cause

    async def _kill(self, server: Any, proxy: Proxy) -> None:
        server.kill()
        await asyncio.to_thread(server.start)
        proxy.cut()

    async def _cancel(self, loads: dict[str, Load]) -> None:
        """Cancel calls that are under way, at moments of chance."""
        for load in loads.values():
            for number in range(50):
                call = asyncio.create_task(
                    load.storage.write_bytes("cancelled", bytes(30_000 * (number % 2)), ttl=3600)
                )
                await asyncio.sleep(self._random.random() / 200)
                call.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await call
            with suppress(Exception):
                await load.storage.invalidate("cancelled")

    async def _sample(self, seconds: float, url: str) -> None:
        gc.collect()
        with suppress(OSError, AttributeError):  # what glibc keeps at hand, having freed it, is no growth
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        number = await connections(url)
        self.samples.append(
            Sample(
                seconds,
                self._process.memory_info().rss,
                self._process.num_fds(),
                threading.active_count(),
                len(asyncio.all_tasks()),
                number,
            )
        )

    def grown(self) -> list[str]:
        """What is more in the last quarter than in the second, beyond what is natural."""
        quarter = max(1, len(self.samples) // 4)
        before, after = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        found = []
        if before:
            memory = [sum(sample.memory for sample in part) / len(part) for part in (before, after)]
            if memory[1] > 1.1 * memory[0] + LEEWAY:
                found.append(f"memory: {memory[0] / 2**20:.1f} to {memory[1] / 2**20:.1f} MiB")
            for name in COUNTED:
                least = [min(getattr(sample, name) for sample in part) for part in (before, after)]
                if least[1] > least[0] + 5:
                    found.append(f"{name}: {least[0]} to {least[1]}")
        return found

    def text(self) -> str:
        """The tables."""
        every = max(1, len(self.samples) // 12)
        lines = [
            "| seconds | memory (MiB) | file descriptors | threads | tasks | connections |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        shown = self.samples[::every]
        if self.samples and shown[-1] is not self.samples[-1]:
            shown.append(self.samples[-1])
        for sample in shown:
            counts = [sample.descriptors, sample.threads, sample.tasks, sample.connections]
            cells = [f"{sample.seconds:.0f}", f"{sample.memory / 2**20:.1f}", *map(str, counts)]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", table(self.reports)])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200, help="how long; 1200 unless set")
    parser.add_argument("--pause", type=float, default=4, help="seconds between faults; 4 unless set")
    arguments = parser.parse_args()
    soak = Soak(arguments.seconds, arguments.pause)
    asyncio.run(soak.run())
    sys.stdout.write(soak.text() + "\n")
    violations = [detail for report in soak.reports for detail in report.details]
    for problem in [f"grown: {one}" for one in soak.grown()] + violations[:20]:
        sys.stdout.write(f"{problem}\n")
    return 1 if violations or soak.grown() else 0


if __name__ == "__main__":
    sys.exit(main())
