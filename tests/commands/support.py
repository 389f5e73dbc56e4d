"""What the tests of the commands share."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import subprocess
import sysconfig
import termios
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from sqlsessions import SqlSessionStorage
from sqlsessions._commands import app
from sqlsessions.testing import ManualClock

BEHIND = timedelta(hours=47, minutes=2)
LEFT_OUT = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "SQLSESSIONS_URL")
SCRIPT = str(Path(sysconfig.get_path("scripts")) / "sqlsessions")


def run(*arguments: str, input: bytes | None = None, **environment: str) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(app, arguments, input=input, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def fill(url: str, work: Callable[[SqlSessionStorage, ManualClock], Coroutine[Any, Any, None]]) -> None:
    """Do something with a storage whose clock is behind."""

    async def filled() -> None:
        clock = ManualClock(datetime.now(UTC) - BEHIND)
        async with SqlSessionStorage(url, clock=clock, inline_limit=1000, chunk_size=1000) as storage:
            await work(storage, clock)

    asyncio.run(filled())


async def some(storage: SqlSessionStorage, clock: ManualClock) -> None:
    """An expired session, three of alice's, a large one, one of nobody's, and an orphaned version."""
    await storage.write_bytes("expired", b"e" * 50, ttl=60)
    await storage.write_bytes("large", b"old" * 1000)
    await storage.write_bytes("large", b"new" * 1000, subject="bob")
    for number in range(3):
        clock.advance(1)
        await storage.write_bytes(f"alice {number}", b"a" * number, subject="alice")
    await storage.write_bytes("spaces", b"", subject="alice ")
    await storage.write_bytes("forever", b"of nobody", ttl=None)


def in_terminal(*arguments: str, answer: str = "", width: int = 80, **environment: str) -> tuple[int, str]:
    """Run the command as it is installed, in a terminal: its exit code, and what it shows.

    The answer is typed when it asks.
    """
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, width))
    given = {key: value for key, value in os.environ.items() if key not in LEFT_OUT}
    process = subprocess.Popen(
        [SCRIPT, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=given | {"TERM": "xterm"} | environment,
        start_new_session=True,
    )
    os.close(slave)
    shown = b""
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        assert ready, f"nothing happens: {shown!r}"
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
        if answer and shown.endswith(b": "):  # what is typed before a hidden prompt is dropped
            os.write(master, answer.encode())
            answer = ""
    os.close(master)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")
