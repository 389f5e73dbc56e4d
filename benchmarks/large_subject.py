"""A subject with very many sessions: its list, and the calls for other sessions while all of it are revoked.

`python -m benchmarks.large_subject` prints its figures.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial

from sqlsessions import SqlSessionStorage

from .filling import fill
from .load import blob, paced
from .scratch import database
from .worker import say

SUBJECT = "ann"
OTHERS = [f"other {number}" for number in range(1000)]
SIZE = 200


async def measure(server: str, count: int, seconds: float) -> None:
    """Measure on one server.

    Args:
        server: Which.
        count: How many sessions the subject has.
        seconds: How long to write other sessions alone.
    """
    async with database(server) as url:
        await fill(url, count, live=True, subject=SUBJECT)
        async with SqlSessionStorage(url) as storage:
            write = partial(_write, storage, blob(SIZE))
            for id in OTHERS:
                await write(id)
            begin = time.perf_counter()
            async for _ in storage.sessions(SUBJECT):
                break
            first = time.perf_counter() - begin
            begin = time.perf_counter()
            listed = len([info async for info in storage.sessions(SUBJECT)])
            took = time.perf_counter() - begin
            say(f"{server}: {listed:,} listed in {took:.1f} s, the first after {first * 1e3:.1f} ms")
            without = await paced(write, OTHERS, asyncio.create_task(asyncio.sleep(seconds)))
            begin, cpu = time.perf_counter(), time.process_time()
            revoking = asyncio.create_task(storage.revoke(SUBJECT))
            during = await paced(write, OTHERS, revoking)
            took, cpu = time.perf_counter() - begin, time.process_time() - cpu
            say(
                f"{server}: {revoking.result():,} revoked in {took:.1f} s, {cpu:.1f} s of CPU; writes of other sessions "
                f"p50/p99 {without['p50']:.2f}/{without['p99']:.2f} ms without, "
                f"{during['p50']:.2f}/{during['p99']:.2f} ms with"
            )


async def _write(storage: SqlSessionStorage, data: bytes, id: str) -> None:
    await storage.write_bytes(id, data)


def main() -> None:
    """Measure on each server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_subject", description=__doc__)
    servers = ("postgresql", "sqlite", "mariadb", "mysql")
    parser.add_argument("--server", action="append", choices=servers, help="may be repeated")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="of the subject (1,000,000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of writes alone (10)")
    options = parser.parse_args()
    for server in options.server or servers:
        asyncio.run(measure(server, options.sessions, options.seconds))


if __name__ == "__main__":
    main()
