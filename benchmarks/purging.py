"""Reads while a million expired sessions are purged; two purges at once; a purge that is killed.

`python -m benchmarks.purging` prints its figures. The benchmark of growth takes the first of them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage

from .filling import fill, id_of
from .load import paced
from .scratch import database
from .worker import say

COMMAND = [sys.executable, "-c", "from sqlsessions.cli import main; main()", "purge", "--url"]


async def measure(server: str, expired: int, seconds: float, *, gently: bool) -> dict[str, Any]:
    """Reads of as many live sessions, first alone, then while expired ones are purged.

    Args:
        server: Which.
        expired: How many.
        seconds: How long to read without a purge.
        gently: As `purging` does it, with pauses; else as `purge`.
    """
    async with database(server) as url:
        await fill(url, expired, live=False)
        await fill(url, expired, live=True)
        async with SqlSessionStorage(url) as storage:
            ids = [id_of(random.randrange(expired)) for _ in range(50_000)]
            await paced(storage.read_bytes, ids, asyncio.create_task(asyncio.sleep(seconds / 2)))
            without = await paced(storage.read_bytes, ids, asyncio.create_task(asyncio.sleep(seconds)))
            longest = _longest_statement(storage)
            begin = time.perf_counter()
            purging = asyncio.create_task(_gently(storage) if gently else storage.purge())
            during = await paced(storage.read_bytes, ids, purging)
            took = time.perf_counter() - begin
            if purging.result() != expired:
                raise RuntimeError(f"purged {purging.result()} sessions, not {expired}")
    say(f"purge, {server}: {expired:,} in {took:.0f} s; reads' p99 {during['p99']:.2f} ms")
    return {
        "server": server,
        "expired": expired,
        "rate": expired / took,
        "longest": longest(),
        "without": without,
        "during": during,
    }


async def _gently(storage: SqlSessionStorage) -> int:
    purged = await storage.purging().once()
    return purged.sessions if purged else 0


def _longest_statement(storage: SqlSessionStorage) -> Callable[[], float]:
    """Watch what goes through SQLAlchemy, as all of a purge does; the longest took so many ms."""
    longest = 0.0
    engine = storage.engine.sync_engine

    @event.listens_for(engine, "before_cursor_execute")
    def before(connection: Any, *_: Any) -> None:
        connection.info["began"] = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def after(connection: Any, *_: Any) -> None:
        nonlocal longest
        longest = max(longest, (time.perf_counter() - connection.info["began"]) * 1e3)

    return lambda: longest


async def two_at_once(server: str, expired: int) -> None:
    """Two commands at once: between them they delete each session once."""
    async with database(server) as url:
        await fill(url, expired, live=False)
        begin = time.perf_counter()
        said = await asyncio.gather(*(_command(url) for _ in range(2)))
        say(
            f"two purges, {server}: {' | '.join(said)}; {await _count(url):,} left, "
            f"{time.perf_counter() - begin:.0f} s"
        )


async def killed(server: str, expired: int) -> None:
    """A command killed in the midst, and run again."""
    async with database(server) as url:
        await fill(url, expired, live=False)
        process = await asyncio.create_subprocess_exec(*COMMAND, url)
        while await _count(url) > expired * 0.6:
            await asyncio.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        left, begin = await _count(url), time.perf_counter()
        said = await _command(url)
        say(
            f"kill -9, {server}: {left:,} of {expired:,} were left; then: {said}; "
            f"{await _count(url):,} left, {time.perf_counter() - begin:.0f} s"
        )


async def _command(url: str) -> str:
    process = await asyncio.create_subprocess_exec(*COMMAND, url, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return f"exit {process.returncode}, {output.decode().strip()!r}"


async def _count(url: str) -> int:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        count: int = (await connection.execute(text("SELECT count(*) FROM sessions"))).scalar_one()
    await engine.dispose()
    return count


def main() -> None:
    """Measure on each server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.purging", description=__doc__)
    servers = ("postgresql", "sqlite", "mariadb")
    parser.add_argument("--server", action="append", choices=servers, help="may be repeated")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="expired ones (1,000,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of reads without a purge (10)")
    options = parser.parse_args()

    def run(work: Coroutine[Any, Any, Any]) -> None:
        found = asyncio.run(work)
        if found:
            say(
                f"  {found['rate']:,.0f} sessions/s, longest statement {found['longest']:.0f} ms; reads p50/p99 "
                f"{found['without']['p50']:.2f}/{found['without']['p99']:.2f} ms without, "
                f"{found['during']['p50']:.2f}/{found['during']['p99']:.2f} ms with"
            )

    for server in options.server or servers:
        for gently in (True, False):
            say(f"== {server}, {'with' if gently else 'without'} pauses")
            run(measure(server, options.sessions, options.seconds, gently=gently))
        run(two_at_once(server, options.sessions // 5))
        run(killed(server, options.sessions // 5))


if __name__ == "__main__":
    main()
