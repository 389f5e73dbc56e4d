"""What touches and rewrites cost PostgreSQL: the share of HOT updates, and bytes of WAL.

WAL is counted by the position of the server's log, so that it includes what others write meanwhile. With
full-page images, which fall on the first changes of a pass, the mean of the whole pass counts; without
them, the median of its blocks does, which a burst of somebody else's does not move.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from statistics import mean, median
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sqlsessions import SqlSessionStorage, new_session_id
from sqlsessions.testing import ManualClock

from .load import blob
from .scratch import Unavailable, database
from .worker import run, say

TTL = 14 * 24 * 60 * 60
STEP = 0.06 * TTL
"""A touch is written once it gains 5 % of the idle timeout."""

CALLERS = 64
SIZE = 1024
PASSES = 2
POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"


def collect(*, quick: bool, servers: Sequence[str]) -> dict[str, Any] | None:
    """Measure, if there is a server."""
    if "postgresql" not in servers:
        return None
    result: dict[str, Any] | None = run("postgres", sessions=500 if quick else 10_000)
    return result


async def measure(sessions: int) -> dict[str, Any] | None:
    """Touch every session of 1 KiB twice, after a checkpoint; then the same with rewrites."""
    ids = [new_session_id() for _ in range(sessions)]
    result: dict[str, Any] = {"sessions": sessions, "size": SIZE}
    for name in ("touch", "rewrite"):
        try:
            async with database("postgresql") as url:
                result[name] = await _cost(url, ids, name)
        except Unavailable as error:
            say(f"postgres: skipped, {error}")
            return None
        say(f"postgres, {name}: {result[name]}")
    return result


async def _cost(url: str, ids: Sequence[str], name: str) -> dict[str, Any]:
    clock = ManualClock()
    engine = create_async_engine(make_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    passes = []
    async with SqlSessionStorage(url, ttl=TTL, clock=clock) as storage:

        async def touch(id: str) -> None:
            await storage.touch(id)

        async def rewrite(id: str) -> None:
            await storage.write_bytes(id, blob(SIZE))

        await _each(rewrite, ids)
        await _run(engine, "VACUUM ANALYZE sessions")
        await _run(engine, "CHECKPOINT")
        for _ in range(PASSES):
            clock.advance(STEP)
            passes.append(await _wal(engine, {"touch": touch, "rewrite": rewrite}[name], ids))
    # The statistics of a connection are complete once it is closed.
    updates, hot = await _run(
        engine, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'sessions'"
    )
    if updates != PASSES * len(ids):
        raise RuntimeError(f"{updates} updates, not {PASSES * len(ids)}")
    return {
        "updates": updates,
        "hot": hot / updates,
        "wal_images": mean(passes[0]),
        "wal": median(passes[-1]),
    }


async def _each(call: Callable[[str], Awaitable[None]], ids: Sequence[str]) -> None:
    todo = iter(ids)

    async def caller() -> None:
        for id in todo:
            await call(id)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _wal(
    engine: AsyncEngine, call: Callable[[str], Awaitable[None]], ids: Sequence[str]
) -> list[float]:
    """Bytes of WAL per call, in each of ten blocks."""
    ids = random.sample(ids, len(ids))  # in the order in which they were written, they would be neighbours
    block = max(1, len(ids) // 10)
    sizes = []
    for first in range(0, len(ids), block):
        [before] = await _run(engine, POSITION)
        await _each(call, ids[first : first + block])
        [after] = await _run(engine, POSITION)
        sizes.append(float(after - before) / len(ids[first : first + block]))
    return sizes


async def _run(engine: AsyncEngine, statement: str) -> Any:
    async with engine.connect() as connection:
        result = await connection.execute(text(statement))
        return result.one() if result.returns_rows else None
