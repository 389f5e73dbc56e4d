"""A service under load, in a process of its own that can be killed: `python -m tests.faults.worker`.

It tells of every call as it begins and as it ends, a line each, which is in the pipe before anything else
happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlsessions import SqlSessionStorage

from .ledger import Ledger, State
from .load import LARGE, PATIENCE, Load

ROOT = Path(__file__).parent.parent.parent


class Service:
    """The parent's side of a worker.

    Attributes:
        ledger: What its callers were told.
        last: When the last call was acknowledged, by `time.monotonic`.
        process: The worker.
    """

    def __init__(self, process: asyncio.subprocess.Process, ledger: Ledger) -> None:
        self.process = process
        self.ledger = ledger
        self.last = 0.0
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        url: str,
        ledger: Ledger,
        names: list[str],
        *,
        seed: int = 0,
        large: int = LARGE,
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[Service]:
        """A worker that serves the slots, each going on from what the ledger knows.

        Args:
            url: Of the database.
            ledger: Gets its events.
            names: Of the slots.
            seed: Of what it does.
            large: The most bytes of a large session.
            prefix: A command that runs the worker's.
            environment: More variables of the worker's.
            options: Arguments of the storage.
        """
        slots = {}
        for name in names:
            slot = ledger.slot(name)
            [state] = slot.possible
            slots[name] = [slot.generation, slot.sequence, state]
        orders = {"url": url, "slots": slots, "seed": seed, "large": large, "options": options}
        process = await asyncio.create_subprocess_exec(
            *(*prefix, sys.executable, "-m", "tests.faults.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            limit=1 << 24,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(orders).encode() + b"\n")
        service = cls(process, ledger)
        try:
            yield service
        finally:
            if process.returncode is None:
                service.kill()
            await process.wait()
            await service._listener

    async def until(self, acknowledged: int) -> None:
        """Wait until so many calls more were acknowledged."""
        wanted = self.ledger.acknowledged + acknowledged
        async with asyncio.timeout(PATIENCE):
            while self.ledger.acknowledged < wanted:
                assert not self._listener.done(), "the service has ended by itself"
                await asyncio.sleep(0.002)

    def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def killed(self) -> None:
        """Kill it, and take in what it had told."""
        self.kill()
        await self.process.wait()
        await self._listener
        self.ledger.died()

    async def stopped(self) -> None:
        """Let it end its calls and close its storage."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await self.process.wait() == 0
            await self._listener

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        before = self.ledger.acknowledged
        async for line in self.process.stdout:
            if line.endswith(b"\n"):  # the last may be cut off
                self.ledger.note(line.decode().rstrip())
                if self.ledger.acknowledged > before:
                    before, self.last = self.ledger.acknowledged, time.monotonic()


def tell(line: str) -> None:
    os.write(1, line.encode() + b"\n")


async def serve(orders: dict[str, Any]) -> None:
    ledger = Ledger(tell)
    for name, (generation, sequence, state) in orders["slots"].items():
        slot = ledger.slot(name)
        slot.generation, slot.sequence = generation, sequence
        slot.possible = {None if state is None else State(*state)}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with SqlSessionStorage(orders["url"], **orders["options"]) as storage:
        load = Load(storage, ledger, seed=orders["seed"], large=orders["large"])
        load.start(orders["slots"])
        await stop.wait()
        await load.stop()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
