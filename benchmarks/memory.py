"""Memory while very many callers write at once: the peak of this process, beyond their payloads."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any

from sqlsessions import SqlSessionStorage, new_session_id

from .peers import OURS
from .scratch import Unavailable, database
from .worker import run, say

SIZE = 16 * 1024


def collect(*, quick: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure on each of our databases, in a process for each."""
    callers = 500 if quick else 10_000
    rows = [run("memory", server=server, callers=callers) for server in OURS if server in servers]
    return {
        "rows": [row for row in rows if "growth" in row],
        "skipped": {f"memory, {row['server']}": row["reason"] for row in rows if "reason" in row},
    }


async def measure(server: str, callers: int) -> dict[str, Any]:
    """The growth in MiB of the peak resident size while the callers write, tasks and all."""
    try:
        async with database(server) as url, SqlSessionStorage(url) as storage:
            ids = [new_session_id() for _ in range(callers)]
            await asyncio.gather(*(storage.write_bytes(id, b"warm") for id in ids[:64]))
            payloads = [os.urandom(SIZE) for _ in range(callers)]
            before = _peak()
            await asyncio.gather(*(storage.write_bytes(*pair) for pair in zip(ids, payloads, strict=True)))
            growth = _peak() - before
            if await storage.read_bytes(ids[-1]) != payloads[-1]:
                raise RuntimeError("a session has not the data that was written")
    except Unavailable as error:
        return {"server": server, "reason": str(error)}
    say(f"memory, {server}: {growth:.1f} MiB")
    return {"server": server, "callers": callers, "size": SIZE, "growth": growth}


def _peak() -> float:
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
