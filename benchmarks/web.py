"""Requests per second of a small app under uvicorn: our sessions and those of others."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .environment import now
from .own_servers import answers, free_port
from .scratch import Unavailable, database
from .worker import run, say

SIDES = {  # name: side, the server that it needs
    "no sessions": ("none", None),
    "Starlette's cookie": ("cookie", None),
    "sqlsessions, SQLite": ("ours", "sqlite"),
    "sqlsessions, PostgreSQL": ("ours", "postgresql"),
    "starsessions, Redis": ("starsessions", "redis"),
    "fastapi-redis-sdk, Redis": ("fastapi-redis-sdk", "redis-7.4"),
    "Django's own, SQLite": ("django", "sqlite"),
    "sqlsessions in Django, SQLite": ("django-ours", "sqlite"),
}
PATHS = {"read": "/", "write": "/write"}
SESSIONS = 200
CONNECTIONS = 32
SCRIPT = """cookies = {{ {} }}
number = 0
request = function()
  number = number % #cookies + 1
  return wrk.format("GET", "{}", {{ Cookie = cookies[number] }})
end
"""


def collect(*, rounds: int, quick: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure, if wrk and uvicorn are there."""
    if (wrk := shutil.which("wrk")) is None:
        return {"rows": [], "skipped": {"Starlette app": "wrk is not installed"}}
    result: dict[str, Any] = run(
        "web", rounds=rounds, seconds=1 if quick else 5, servers=list(servers), wrk=wrk
    )
    return result


async def measure(rounds: int, seconds: int, servers: Sequence[str], wrk: str) -> dict[str, Any]:
    """Ask every side in turn, round after round, with the cookies of many sessions."""
    when = now()
    rates: dict[tuple[str, str], list[float]] = {}
    skipped: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        commands: dict[tuple[str, str], list[str]] = {}
        for name, (side, server) in SIDES.items():
            if server is not None and server.partition("-")[0] not in servers:
                continue
            try:
                url = await stack.enter_async_context(database(server)) if server else ""
                port = await stack.enter_async_context(serving(side, url))
            except (Unavailable, ImportError) as error:
                skipped[f"Starlette app, {name}"] = str(error)
                continue
            cookies = ", ".join([f'"{await login(port)}"' for _ in range(SESSIONS)])
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for op, path in PATHS.items():
                script = folder / f"{op}.lua"
                script.write_text(SCRIPT.format(cookies, path))
                commands[name, op] = [
                    wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/",
                ]  # fmt: skip
        for number in range(rounds + 1):  # the first warms up
            for side_and_op in sorted(commands, key=lambda key: list(PATHS).index(key[1])):
                rate = await _asked(commands[side_and_op])
                if number:
                    rates.setdefault(side_and_op, []).append(rate)
            say("web: " + ", ".join(f"{name}, {op} {found[-1]:,.0f}" for (name, op), found in rates.items()))
    rows = [{"name": name, "op": op, "rates": found} | when for (name, op), found in rates.items()]
    return {"rows": rows, "skipped": skipped}


@asynccontextmanager
async def serving(side: str, url: str, *, workers: int = 1) -> AsyncIterator[int]:
    """The port at which the app answers."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "--factory", "benchmarks.web_apps:create_app", f"--port={port}",
        f"--workers={workers}", "--no-access-log", "--log-level=error", env=os.environ | {"SIDE": side, "URL": url},
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            while not await answers(port):
                await asyncio.sleep(0.1)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def login(port: int) -> str:
    """The cookie of a new session; of an app without sessions, one that it does not look at."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    found = re.search(r"(?i)^set-cookie: ([^;\r]*)", answer, re.MULTILINE)
    return found[1] if found else "session=none"


async def _asked(command: Sequence[str]) -> float:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output = (await process.communicate())[0].decode()
    if "Non-2xx" in output or (found := re.search(r"Requests/sec:\s+([\d.]+)", output)) is None:
        raise RuntimeError(f"wrk: {output}")
    return float(found[1])
