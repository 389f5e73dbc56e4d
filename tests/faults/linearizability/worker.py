"""A process with a storage and some clients, told by its standard input what to do.

Events go to standard output, each in one write before or after the call that it is about, so that they outlive
the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

from sqlsessions import CacheStorage, ManagedSessionStorage, SqlSessionStorage, StorageUnavailable
from sqlsessions.cache.bus import Bus, listening, task
from sqlsessions.cache.bus.redis import RedisBus
from sqlsessions.sql.bus import polling

from .clients import LIMITS, Client, Habits


def tell(event: dict[str, Any], **more: Any) -> None:
    os.write(1, json.dumps(event | more).encode() + b"\n")


def reads(storage: ManagedSessionStorage) -> Counter[str]:
    """How many reads a cache has answered alone, by looking at the version, and not at all."""
    if not isinstance(storage, CacheStorage):
        return Counter()
    found = storage.statistics
    return Counter(hits=found.hits, checked=found.checked, missed=found.misses)


def hurry(bound: float) -> None:
    """Let a proof of a bus hold for as many seconds, so that histories are longer than that."""
    task.BOUND = bound
    listening.INTERVAL = bound / 4
    listening.DEAD_AFTER = 10 * bound
    task.LONGEST_BACKOFF = bound
    polling.PERIOD, polling.GRACE, polling.SETTLED = bound / 3, 2 * bound, 0.0


async def main(url: str, options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    cache = options.pop("cache", None)
    if (bound := options.pop("bound", None)) is not None:
        hurry(bound)
    if options.pop("mute", False):
        Bus._deliver = lambda *_: None  # type: ignore[method-assign]
    if (bus := options.pop("bus", "")).startswith("redis"):
        cache["bus"] = RedisBus(bus, channel=f"linearizability {url}")
    elif bus:
        options["direct_url"] = bus
    sql: ManagedSessionStorage = SqlSessionStorage(url, **LIMITS, **options)
    async with sql if cache is None else CacheStorage(sql, **cache) as storage:
        with suppress(StorageUnavailable):
            await storage.info("anything, to open a connection")
        tell({"ready": True})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            given = json.loads(line)
            habits = Habits(**given["habits"])
            clients: list[Client] = []
            for place, of in enumerate(given["histories"]):
                log, versions = partial(tell, history=place), dict[int, int]()
                clients += (
                    Client(storage, of["ids"], number, f"{of['seed']} {number}", log, habits, versions)
                    for number in given["clients"]
                )
            before = reads(storage)
            await asyncio.gather(*(client.run() for client in clients))
            tell({"done": reads(storage) - before})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
