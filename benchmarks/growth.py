"""Cost at ten thousand, a million and ten million sessions, and reads while a purge is under way."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import Any

from sqlsessions import SqlSessionStorage

from . import purging
from .filling import fill, id_of
from .load import blob, drive
from .scratch import Unavailable, database
from .worker import run, say

CALLERS = 64
SIZE = 200

QUARTER = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 // 2**20
"""MiB of this machine's memory for PostgreSQL's cache, as its documentation advises."""
SPACE = 15 * 10**9
"""Bytes of free disk that ten million sessions ask for."""


def collect(*, rounds: int, quick: bool, full: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure on PostgreSQL and SQLite, in a process for each."""
    result: dict[str, Any] = {"sizes": [], "purges": [], "skipped": {}}
    sizes = {"postgresql": [10_000, 1_000_000], "sqlite": [10_000, 1_000_000]}
    if full:
        if shutil.disk_usage(tempfile.gettempdir()).free < SPACE:
            result["skipped"]["growth, 10 million"] = f"it asks for {SPACE // 10**9} GB of free disk"
        else:
            sizes["postgresql"].append(10_000_000)
    for server, counts in sizes.items():
        if server in servers:
            some = [500, 2000] if quick else counts
            part = run("growth", rounds=rounds, server=server, sizes=some, expired=some[1], quick=quick)
            for key, value in part.items():
                result[key] = result[key] | value if key == "skipped" else result[key] + value
    return result


async def measure(
    rounds: int, server: str, sizes: Sequence[int], expired: int, quick: bool
) -> dict[str, Any]:
    """Measure on one server."""
    try:
        rows = await _sizes(server, sizes, rounds, 0.1 if quick else 1.0)
        purge = await purging.measure(server, expired, 0.2 if quick else 10.0, gently=False)
    except Unavailable as error:
        return {"skipped": {f"growth, {server}": str(error)}}
    return {"sizes": rows, "purges": [purge]}


async def _sizes(server: str, sizes: Sequence[int], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Reads and writes of random sessions at each size, the sizes in turn."""
    async with AsyncExitStack() as stack:
        sides = {}
        for count in sizes:
            cache = QUARTER if server == "postgresql" else 0
            url = await stack.enter_async_context(database(server, shared_buffers=cache))
            begin = time.perf_counter()
            await fill(url, count, live=True)
            say(f"growth, {server}: {count:,} sessions in {time.perf_counter() - begin:.0f} s")
            sides[count] = await stack.enter_async_context(SqlSessionStorage(url))
        taken: dict[int, dict[str, list[Any]]] = {count: {"read": [], "write": []} for count in sizes}
        data = blob(SIZE)
        for _ in range(rounds + 1):  # the first warms up
            for count, storage in sides.items():
                chosen = [id_of(random.randrange(count)) for _ in range(min(count, 50_000))]
                for name, call in (
                    ("read", storage.read_bytes),
                    ("write", partial(_write, storage, data)),
                ):
                    sample = await drive(call, chosen, callers=CALLERS, seconds=seconds)
                    taken[count][name].append(sample)
        return [{"server": server, "sessions": count} | _medians(taken[count]) for count in sizes]


async def _write(storage: SqlSessionStorage, data: bytes, id: str) -> None:
    await storage.write_bytes(id, data)


def _medians(taken: dict[str, list[Any]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            figure: median(getattr(sample, figure) for sample in samples[1:])
            for figure in ("rate", "p50", "p99")
        }
        for name, samples in taken.items()
    }
