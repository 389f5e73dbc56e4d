"""Large sessions, in MB/s: ours against the same chunk rows by hand through the raw driver."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from sqlsessions import ByteReadChannel, ByteWriteChannel, SqlSessionStorage, new_session_id

from .peers.chunks import RawChunks
from .peers.chunks import load as raw
from .scratch import Unavailable, database
from .worker import run, say

MIB = 1024 * 1024
CHUNK = 256 * 1024
Step = Callable[[], Awaitable[None]]


def collect(*, rounds: int, quick: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure on PostgreSQL and SQLite."""
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for server in ("postgresql", "sqlite"):
        if server in servers:
            part = run("streaming", rounds=rounds, size=4 if quick else 256, server=server)
            rows += part["rows"]
            skipped |= part["skipped"]
    return {"rows": rows, "skipped": skipped}


async def measure(rounds: int, size: int, server: str) -> dict[str, Any]:
    """Write and read a session of some MiB, ours and by hand in turn."""
    piece = bytes(range(256)) * (CHUNK // 256)
    pieces = size * MIB // CHUNK
    taken: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        try:
            ours = SqlSessionStorage(await stack.enter_async_context(database(server)))
            by_hand = raw(server)(await stack.enter_async_context(database(server)))
            await by_hand.setup()
        except Unavailable as error:
            return {"rows": [], "skipped": {f"streaming, {server}": str(error)}}
        stack.push_async_callback(ours.aclose)
        stack.push_async_callback(by_hand.close)
        for number in range(rounds):
            id = new_session_id()
            steps: dict[tuple[str, str], Step] = {
                ("ours", "write"): partial(_write, ours, id, piece, pieces),
                ("raw", "write"): partial(by_hand.write, number, piece, pieces),
                ("ours", "read"): partial(_read, ours, id, size * MIB),
                ("raw", "read"): partial(_read_raw, by_hand, number, size * MIB),
                ("raw in one transaction", "write"): partial(by_hand.write_atomic, piece, pieces),
            }
            order = sorted(steps.items(), reverse=number % 2 == 1, key=lambda item: item[0][0])
            order.sort(key=lambda item: item[0][1], reverse=True)  # writes come first
            for key, step in order:
                begin = time.perf_counter()
                await step()
                taken.setdefault(key, []).append(size * MIB / 1e6 / (time.perf_counter() - begin))
            say(
                f"streaming, {server}: " + ", ".join(f"{rates[-1]:.0f}" for rates in taken.values()) + " MB/s"
            )
            await by_hand.empty("raw_chunks", "atomic_chunks")
            await RawChunks.empty_ours(ours)
    rows: list[dict[str, Any]] = [
        {"server": server, "against": by_hand.name, "op": op, "size": size}
        | {"ours": taken["ours", op], "raw": taken["raw", op]}
        for op in ("write", "read")
    ]
    rows[0]["raw_atomic"] = taken["raw in one transaction", "write"]
    return {"rows": rows, "skipped": {}}


async def _write(storage: SqlSessionStorage, id: str, piece: bytes, pieces: int) -> None:
    async def provider(channel: ByteWriteChannel) -> None:
        for _ in range(pieces):
            await channel.write(piece)

    await storage.write(id, provider)


async def _read(storage: SqlSessionStorage, id: str, size: int) -> None:
    async def consumer(channel: ByteReadChannel) -> int:
        return sum([len(chunk) async for chunk in channel])

    if await storage.read(id, consumer) != size:
        raise RuntimeError("a stream has not the size that was written")


async def _read_raw(by_hand: RawChunks, number: int, size: int) -> None:
    if await by_hand.read(number) != size:
        raise RuntimeError("a stream by hand has not the size that was written")
