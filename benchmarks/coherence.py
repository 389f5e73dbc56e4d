"""What it costs that the caches of several processes agree, and how soon they do, for each kind of bus.

Four processes hold a session in their caches, one of them ends it, and the others ask for it all the time: what counts
is the time from the acknowledgement of the logout to the answer of the last process that no longer serves it. All
processes run on one machine, whose monotonic clock they share.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from sqlsessions import CacheStorage, SqlSessionStorage, new_session_id
from sqlsessions.cache.bus import Bus
from sqlsessions.sql.bus import polling

from .load import percentiles
from .scratch import Unavailable, address, database
from .web import login, serving
from .worker import run, say

PROCESSES = 4
POLL = 0.0005  # seconds between two questions
CALLERS = 64
SIZE = 1024
KINDS = {"PostgreSQL": "postgresql", "SQLite": "sqlite", "MariaDB": "mariadb", "Redis": "redis"}
"""The buses, and the server of each; that of Redis is over PostgreSQL."""


def collect(*, rounds: int, quick: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure each kind of bus whose server is to be used."""
    result: dict[str, Any] = {"logouts": [], "writes": [], "hits": [], "app": [], "skipped": {}}
    seconds, count = (0.3, 10) if quick else (4.0, 1000)
    for kind, server in KINDS.items():
        if server in servers:
            some = count // 5 if kind == "MariaDB" else count  # of which each takes half a second
            found = run("coherence", kind=kind, rounds=rounds, seconds=seconds, count=some)
            result["skipped"] |= found.pop("skipped", {})
            for name, rows in found.items():
                result[name] += rows
    return result


async def measure(kind: str, rounds: int, seconds: float, count: int) -> dict[str, Any]:
    """Measure one kind of bus."""
    polling.SETTLED = 0.0  # no transaction is under way from before
    try:
        async with AsyncExitStack() as stack:
            server = "postgresql" if kind == "Redis" else KINDS[kind]
            url, quiet = [await stack.enter_async_context(database(server)) for _ in range(2)]
            redis = f"{address('redis')}" if kind == "Redis" else None
            result: dict[str, Any] = {}
            for strict in (False, True):
                found = await logouts(url, redis, count, strict=strict)
                result.setdefault("logouts", []).append({"bus": kind, "strict": strict} | found)
                say(f"coherence: {result['logouts'][-1]}")
            result["writes"] = [{"bus": kind, "rates": await writes(url, quiet, redis, rounds, seconds)}]
            say(f"coherence: {result['writes']}")
            result["hits"] = [{"bus": kind, "rates": await hits(url, redis, rounds, seconds / 2)}]
            say(f"coherence: {result['hits']}")
            result["app"] = []
            if kind == "PostgreSQL":
                result["app"] = [{"bus": kind, "rates": await app(url, rounds, seconds)}]
                say(f"coherence: {result['app']}")
            return result
    except (Unavailable, ImportError) as error:
        return {"skipped": {f"coherence, {kind}": str(error)}}


def cached(url: str, redis: str | None, **options: Any) -> CacheStorage:
    """A cache whose bound is so far away that its bus counts alone."""
    if redis is not None:
        from sqlsessions.cache.bus.redis import RedisBus

        options["bus"] = RedisBus(redis, channel=url)
    return CacheStorage(SqlSessionStorage(url), max_staleness=60, **options)


class Process:
    """A process with a cache, which does what it is told line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def several(
        cls, number: int, url: str, redis: str | None, *, strict: bool
    ) -> AsyncIterator[list[Process]]:
        """Some, whose buses are proven."""
        arguments = [sys.executable, "-m", "benchmarks.coherence", url, redis or "", json.dumps(strict)]
        pipe = subprocess.PIPE
        processes = [
            cls(await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe))
            for _ in range(number)
        ]
        try:
            for process in processes:
                await process.answer()
            yield processes
        finally:
            for process in processes:
                await process.close()

    async def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ask(self, *words: str) -> float:
        """Tell it something, and wait for the number that it answers."""
        self.tell(*words)
        return await self.answer()

    def tell(self, *words: str) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words).encode() + b"\n")

    async def answer(self) -> float:
        """The number that it answers."""
        assert self._process.stdout is not None
        return float(await self._process.stdout.readline())


async def logouts(url: str, redis: str | None, count: int, *, strict: bool) -> dict[str, float]:
    """Milliseconds until the last process refuses a session."""
    taken = []
    async with Process.several(PROCESSES, url, redis, strict=strict) as [first, *others]:
        for _ in range(count):
            id = new_session_id()
            await first.ask("begin", id)
            for other in others:
                await other.ask("hold", id)
            for other in others:
                other.tell("watch", id)
            acknowledged = await first.ask("end", id)
            refused = [await other.answer() for other in others]
            taken.append(max(0.0, max(refused) - acknowledged) * 1000)
    p50, p99 = percentiles(taken)
    return {"p50": p50, "p99": p99, "most": max(taken), "count": count}


async def writes(
    url: str, quiet: str, redis: str | None, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Writes per second of 64 callers, in turns with the bus of several processes and without."""
    rates: dict[str, list[float]] = {"off": [], "on": []}
    async with (
        Process.several(PROCESSES - 1, url, redis, strict=False),
        CacheStorage(SqlSessionStorage(quiet), bus=None) as off,
        cached(url, redis) as on,
    ):
        await _prove(on)
        for number in range(rounds + 1):  # the first warms up
            for name, storage in (("off", off), ("on", on)):
                rate = await _write(storage, seconds)
                if number:
                    rates[name].append(rate)
    return rates


async def hits(url: str, redis: str | None, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Reads from the cache per second, one after the other, in turns with the bus and without."""
    rates: dict[str, list[float]] = {"off": [], "on": []}
    id = new_session_id()
    async with (
        CacheStorage(SqlSessionStorage(url), max_staleness=60, bus=None) as off,
        cached(url, redis) as on,
    ):
        await on.write_bytes(id, bytes(SIZE))
        await _prove(on)
        for number in range(rounds + 1):
            for name, storage in (("off", off), ("on", on)):
                count, began = 0, time.perf_counter()
                while time.perf_counter() - began < seconds:
                    for _ in range(200):
                        await storage.read_bytes(id)
                    count += 200
                    await asyncio.sleep(0)  # as between requests: a notice or heartbeat may arrive
                if number:
                    rates[name].append(count / (time.perf_counter() - began))
    return rates


async def app(url: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Requests per second of a Starlette app with four workers, in turns with caches and without."""
    rates: dict[str, list[float]] = {"off": [], "on": []}
    async with (
        serving("ours", url, workers=PROCESSES) as off,
        serving("cached", url, workers=PROCESSES) as on,
    ):
        ports = {"off": off, "on": on}
        cookies = {name: [await login(port) for _ in range(CALLERS)] for name, port in ports.items()}
        for number in range(rounds + 1):
            for name, port in ports.items():
                rate = await _request(port, cookies[name], seconds)
                if number:
                    rates[name].append(rate)
    return rates


async def _request(port: int, cookies: Sequence[str], seconds: float) -> float:
    """Requests per second, over one connection for each cookie."""
    began, count = time.perf_counter(), 0

    async def client(cookie: str) -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
        while time.perf_counter() - began < seconds:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(3)
            if not head.startswith(b"HTTP/1.1 200") or body != b"ann":
                raise RuntimeError(f"the app answered {head!r}")
            count += 1
        writer.close()

    await asyncio.gather(*(client(cookie) for cookie in cookies))
    return count / (time.perf_counter() - began)


async def _prove(storage: CacheStorage) -> None:
    bus: Bus | None = storage._bus  # noqa: SLF001
    await storage.write_bytes(f"probe {secrets.token_hex(8)}", b"")
    while bus is not None and not bus.statistics.proven:
        bus.state()
        await asyncio.sleep(0.01)


async def _write(storage: CacheStorage, seconds: float) -> float:
    """Writes of sessions that there are, by many callers."""
    ids = [new_session_id() for _ in range(CALLERS)]
    await asyncio.gather(*(storage.write_bytes(id, bytes(SIZE)) for id in ids))
    began, count = time.perf_counter(), 0

    async def caller(id: str) -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            count += 1
            await storage.write_bytes(id, count.to_bytes(8, "big") + bytes(SIZE - 8))

    await asyncio.gather(*(caller(id) for id in ids))
    return count / (time.perf_counter() - began)


async def child(url: str, redis: str, strict: str) -> None:
    """Do what the lines of the standard input say."""
    polling.SETTLED = 0.0
    loop = asyncio.get_running_loop()
    async with cached(url, redis or None, strict=json.loads(strict)) as storage:
        await _prove(storage)
        print(repr(time.monotonic()), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, id = line.split()
            if word == "begin":
                await storage.write_bytes(id, bytes(SIZE))
            elif word == "hold":
                await storage.load(id)
            elif word == "end":
                await storage.invalidate(id)
            elif word == "watch":
                while await storage.load(id) is not None:
                    await asyncio.sleep(POLL)
            print(repr(time.monotonic()), flush=True)


if __name__ == "__main__":
    asyncio.run(child(*sys.argv[1:]))
