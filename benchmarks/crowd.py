"""A crowd on few sessions: several processes whose clients write, touch, end and rotate the same ones.

``python -m benchmarks.crowd URL`` says how many calls there were with operations of one kind, and of mixed kinds,
how long they took, and how many deadlocks the database broke.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SessionConflict, SessionNotFound, SqlSessionStorage, StorageUnavailable

SESSIONS = [f"crowd {number}" for number in range(60)]
DEADLOCKS = {
    "postgresql": "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    "mariadb": "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status"
    " WHERE variable_name = 'Innodb_deadlocks'",
    "mysql": "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'",
}


async def call(storage: SqlSessionStorage, id: str, versions: dict[str, int], *, mixed: bool) -> None:
    """One call of a client."""
    kind = (
        random.choices(["write", "match", "touch", "end", "read"], [4, 4, 2, 1, 4])[0] if mixed else "write"
    )
    match kind:
        case "write":
            versions[id] = (await storage.write_bytes(id, b"x" * 200, ttl=random.choice([600, 700]))).version
        case "match":
            versions[id] = (await storage.write_bytes(id, b"y" * 200, if_match=versions.get(id, 1))).version
        case "touch":
            await storage.touch(id, ttl=random.randrange(1000, 9000))
        case "end":
            await storage.invalidate(id)
        case "read":
            versions[id] = info.version if (info := await storage.info(id)) else 0


async def work(url: str, clients: int, seconds: float, *, mixed: bool) -> None:
    """What a process of the crowd does; prints how long its calls took."""
    times: list[float] = []
    failed = 0
    versions: dict[str, int] = {}
    async with SqlSessionStorage(url) as storage:
        end = time.perf_counter() + seconds

        async def client() -> None:
            nonlocal failed
            while (begun := time.perf_counter()) < end:
                try:
                    await call(storage, random.choice(SESSIONS), versions, mixed=mixed)
                except (SessionConflict, SessionNotFound):
                    pass
                except StorageUnavailable:
                    failed += 1
                times.append(time.perf_counter() - begun)

        await asyncio.gather(*(client() for _ in range(clients)))
    times.sort()
    print(json.dumps({"calls": len(times), "p99": times[len(times) * 99 // 100], "failed": failed}))


async def crowd(url: str, processes: int, clients: int, seconds: float, *, mixed: bool) -> dict[str, Any]:
    """Run a crowd; the sum of its calls, the worst p99, and the deadlocks meanwhile."""
    before = await deadlocks(url)
    kind = "mixed" if mixed else "one"
    command = [sys.executable, "-m", "benchmarks.crowd", url, "--worker", kind]
    command += ["--clients", str(clients), "--seconds", str(seconds)]
    running = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        for _ in range(processes)
    ]
    found = [json.loads((await process.communicate())[0]) for process in running]
    await asyncio.sleep(1.5)  # PostgreSQL counts with a delay
    return {
        "kind": kind,
        "calls": sum(each["calls"] for each in found),
        "p99": max(each["p99"] for each in found),
        "failed": sum(each["failed"] for each in found),
        "deadlocks": await deadlocks(url) - before,
    }


async def deadlocks(url: str) -> int:
    """How many deadlocks the database has broken so far; 0 where there are none."""
    name = make_url(url).get_backend_name()
    if name not in DEADLOCKS:
        return 0
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        if getattr(connection.dialect, "is_mariadb", False):
            name = "mariadb"
        number = int((await connection.execute(text(DEADLOCKS[name]))).scalar() or 0)
    await engine.dispose()
    return number


async def main() -> None:
    """Run the crowds, or be a process of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--worker", choices=["one", "mixed"])
    given = parser.parse_args()
    if given.worker:
        await work(given.url, given.clients, given.seconds, mixed=given.worker == "mixed")
        return
    for mixed in (False, True):
        print(await crowd(given.url, given.processes, given.clients, given.seconds, mixed=mixed), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
