"""The cost of a cache hit: `CacheStorage.read_bytes`, one caller after the other."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any

from sqlsessions import CacheStorage, SessionStorageMemory, new_session_id

from .load import blob
from .worker import run, say

SESSIONS = 1000


def collect(*, rounds: int, quick: bool, loops: Sequence[str] = ("asyncio", "uvloop")) -> dict[str, Any]:
    """Measure under each event loop."""
    hits = 10_000 if quick else 200_000
    return {
        "hits": [
            {"loop": loop, "rates": run("cache", loop, rounds=rounds, hits=hits)}
            for loop in (loops[:1] if quick else loops)
        ]
    }


async def measure(rounds: int, hits: int) -> list[float]:
    """Hits per second, for each round."""
    ids = [new_session_id() for _ in range(SESSIONS)]
    rates = []
    async with CacheStorage(SessionStorageMemory()) as storage:
        for id in ids:
            await storage.write_bytes(id, blob(1024))
            await storage.read_bytes(id)
        for _ in range(rounds):
            gc.collect()
            begin = time.perf_counter()
            for _ in range(hits // SESSIONS):
                for id in ids:
                    await storage.read_bytes(id)
            rates.append(hits // SESSIONS * SESSIONS / (time.perf_counter() - begin))
        statistics = storage.statistics
    say(f"cache: {statistics.hits} hits, {statistics.misses} misses")
    return rates
