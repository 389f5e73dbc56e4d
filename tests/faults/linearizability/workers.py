"""The worker processes, seen from their parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[3]
PATIENCE = 90.0  # seconds that a worker may take to start, or for one history


class WorkerFailed(Exception):
    """A worker ended that nobody killed."""


class Worker:
    """A worker process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.killed = False

    @classmethod
    async def start(cls, url: str, options: Mapping[str, Any]) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"{__package__}.worker",
            url,
            json.dumps(options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
        return cls(process)

    async def ready(self) -> Self:
        """Wait until it can be told what to do."""
        async with asyncio.timeout(PATIENCE):
            if "ready" not in (await self._event() or {}):
                raise WorkerFailed("a worker ended before it was ready")
        return self

    async def play(self, task: Mapping[str, Any], events: list[dict[str, Any]]) -> Mapping[str, int]:
        """Let its clients do what they do, and collect their events until they are done or killed.

        Returns:
            How its cache answered their reads, if it has one and was not killed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            while event := await self._event():
                if "done" in event:
                    reads: dict[str, int] = event["done"]
                    return reads
                events.append(event)
        if not self.killed:
            raise WorkerFailed("a worker ended in the midst of a history")
        return {}

    async def _event(self) -> dict[str, Any] | None:
        """The next event; None if the process has ended, perhaps in the midst of one."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    async def kill(self) -> None:
        """End it at once, as a crash does."""
        self.killed = True
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def pause(self, seconds: float) -> None:
        """Let it do nothing for a while."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                if self._process.returncode is None:
                    self._process.send_signal(signal.SIGCONT)

    async def close(self) -> None:
        """Let it end by itself; else end it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            await self.kill()
