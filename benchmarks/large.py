"""A blob of any size in and out: its checksum, its speed, and how much memory the process grew.

Run as ``python -m benchmarks.large --url URL --size MIB``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import resource
import time

from sqlsessions import ByteReadChannel, ByteWriteChannel, SqlSessionStorage, new_session_id, schema

MIB = 1024 * 1024
PIECE = 64 * 1024


def peak() -> float:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(url: str, mib: int) -> None:
    """Write a blob, read it back, print what came of it."""
    await schema.upgrade(url)
    async with SqlSessionStorage(url) as storage:
        id = new_session_id()
        await storage.write_bytes(id, random.randbytes(MIB))
        await storage.read_bytes(id)
        before = peak()
        source = random.Random(1)
        sent, received = hashlib.sha256(), hashlib.sha256()

        async def provide(channel: ByteWriteChannel) -> None:
            for _ in range(mib * MIB // PIECE):
                piece = source.randbytes(PIECE)
                sent.update(piece)
                await channel.write(piece)

        async def consume(channel: ByteReadChannel) -> None:
            async for piece in channel:
                received.update(piece)

        started = time.perf_counter()
        await storage.write(id, provide)
        written = time.perf_counter()
        await storage.read(id, consume)
        read = time.perf_counter()
        print(f"{storage.engine.dialect.name}: {mib} MiB")
        print(f"write {mib / (written - started):.0f} MiB/s, read {mib / (read - written):.0f} MiB/s")
        print(f"peak memory grew by {peak() - before:.1f} MiB, to {peak():.1f} MiB")
        print("checksums equal" if sent.digest() == received.digest() else "CHECKSUMS DIFFER")
        await storage.invalidate(id)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.url, arguments.size))
