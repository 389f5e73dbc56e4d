"""What slow streams cost the others: reads and writes of 1 KiB with and without 200 of them.

Run as ``python -m benchmarks.slow_streams --url URL``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlsessions import ByteReadChannel, ByteWriteChannel, SqlSessionStorage, new_session_id, schema

STREAMS = 200
CALLERS = 16
ROUNDS = 5
OPERATIONS = 200  # for each caller in a round


@asynccontextmanager
async def slow_streams(storage: SqlSessionStorage, blob: bytes) -> AsyncIterator[None]:
    """Streams that stand still in the middle: half of them providers, half consumers."""
    reached, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def provide(channel: ByteWriteChannel) -> None:
        await channel.write(blob)
        reached.release()
        await go_on.wait()
        await channel.write(blob)

    async def consume(channel: ByteReadChannel) -> None:
        await channel.read(1000)
        reached.release()
        await go_on.wait()
        await channel.read()

    ids = [new_session_id() for _ in range(STREAMS)]
    readers = ids[: STREAMS // 2]
    await asyncio.gather(*(storage.write_bytes(id, blob * 2) for id in readers))
    streams: list[asyncio.Future[object]] = [
        asyncio.ensure_future(storage.read(id, consume)) for id in readers
    ]
    streams += [asyncio.ensure_future(storage.write(id, provide)) for id in ids[STREAMS // 2 :]]
    for _ in streams:
        await reached.acquire()
    yield
    go_on.set()
    await asyncio.gather(*streams)
    await asyncio.gather(*(storage.invalidate(id) for id in ids))


async def measure(storage: SqlSessionStorage, ids: list[str], times: dict[str, list[float]]) -> None:
    """Reads and writes by several callers at once; how long each took goes into times."""

    async def caller(number: int) -> None:
        for step in range(OPERATIONS):
            id = ids[(number * OPERATIONS + step) % len(ids)]
            started = time.perf_counter()
            await storage.read_bytes(id)
            read = time.perf_counter()
            await storage.write_bytes(id, bytes(1024))
            times["read"].append(read - started)
            times["write"].append(time.perf_counter() - read)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def main(url: str) -> None:
    """Interleave rounds with and without slow streams."""
    await schema.upgrade(url)
    times: dict[str, dict[str, list[float]]] = {
        name: {"read": [], "write": []} for name in ("without", "with")
    }
    async with SqlSessionStorage(url, pool_size=5) as storage:
        ids = [new_session_id() for _ in range(500)]
        await asyncio.gather(*(storage.write_bytes(id, bytes(1024)) for id in ids))
        blob = random.randbytes(300_000)
        for _ in range(ROUNDS):
            await measure(storage, ids, times["without"])
            async with slow_streams(storage, blob):
                await measure(storage, ids, times["with"])
        print(f"{storage.engine.dialect.name}: {STREAMS} slow streams, {CALLERS} callers, 5 connections")
    for operation in ("read", "write"):
        for name, measured in times.items():
            seconds = measured[operation]
            median, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
            print(
                f"{operation:5} {name:7} slow streams: median {median * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    asyncio.run(main(parser.parse_args().url))
