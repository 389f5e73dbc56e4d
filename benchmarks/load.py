"""Closed-loop load: a number of callers, each with one operation under way at a time."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PACED = 16
PAUSE = 0.005
"""Callers that pause, and seconds between the calls of one of them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one slice of load showed.

    Attributes:
        rate: SessionRepository per second.
        p50: Median latency in milliseconds.
        p99: Its 99th percentile.
        cpu: CPU seconds of this process, all threads, per 10,000 operations. Not the server's.
        count: SessionRepository.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    count: int

    def json(self) -> dict[str, Any]:
        """As a dictionary with rounded figures."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


async def drive(
    operation: Callable[[str], Awaitable[Any]],
    ids: Sequence[str],
    *,
    callers: int,
    seconds: float,
    apart: bool = False,
) -> Sample:
    """Call an operation with random ids for some seconds; or each caller with some of the ids alone."""
    clock = time.perf_counter
    latencies: list[float] = []
    note = latencies.append
    gc.collect()
    cpu = time.process_time()
    begin = clock()
    end = begin + seconds

    async def caller(number: int) -> None:
        choose = random.Random(number).choice
        mine = ids[number::callers] if apart else ids
        while (start := clock()) < end:
            await operation(choose(mine))
            note(clock() - start)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    took, cpu, count = clock() - begin, time.process_time() - cpu, len(latencies)
    p50, p99 = percentiles(latencies)
    return Sample(count / took, p50 * 1e3, p99 * 1e3, cpu / count * 10_000, count)


async def paced(
    operation: Callable[[str], Awaitable[Any]], ids: Sequence[str], until: asyncio.Task[Any]
) -> dict[str, float]:
    """Call an operation with random ids until something is done, with pauses, so that calls alone do not fill the machine.

    Returns:
        ``p50`` and ``p99`` in milliseconds, and the ``rate`` per second.
    """
    latencies: list[float] = []

    async def caller(number: int) -> None:
        choose = random.Random(number)
        while not until.done():
            begin = time.perf_counter()
            await operation(choose.choice(ids))
            latencies.append((time.perf_counter() - begin) * 1e3)
            await asyncio.sleep(PAUSE * 2 * choose.random())

    begin = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(PACED)))
    p50, p99 = percentiles(latencies)
    return {"p50": p50, "p99": p99, "rate": len(latencies) / (time.perf_counter() - begin)}


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def blob(size: int) -> bytes:
    """Random ASCII, which peers that store text take too."""
    return base64.b64encode(os.urandom(size))[:size]
