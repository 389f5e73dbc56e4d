"""Requests per second of a small app under uvicorn, and its CPU: our sessions and those of others."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .environment import now
from .own_servers import answers, free_port
from .scratch import Unavailable, database
from .worker import run, say

SIDES = {  # name: side, the server that it needs
    "no sessions": ("none", None),
    "Starlette's cookie": ("cookie", None),
    "sqlsessions, SQLite": ("ours", "sqlite"),
    "sqlsessions, PostgreSQL": ("ours", "postgresql"),
    "sqlsessions, SQLite, eager": ("eager", "sqlite"),
    "sqlsessions, PostgreSQL, eager": ("eager", "postgresql"),
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


class Load(NamedTuple):
    """What one slice of load showed.

    Attributes:
        rate: Requests per second.
        cpu: CPU seconds of the app's process per 10,000 requests.
    """

    rate: float
    cpu: float


def collect(*, rounds: int, quick: bool, servers: Sequence[str]) -> dict[str, Any]:
    """Measure, if wrk and uvicorn are there."""
    if (wrk := shutil.which("wrk")) is None:
        return {"rows": [], "skipped": {"Starlette app": "wrk is not installed"}}
    result: dict[str, Any] = run(
        "web", rounds=rounds, seconds=1 if quick else 2, servers=list(servers), wrk=wrk
    )
    return result


async def measure(rounds: int, seconds: int, servers: Sequence[str], wrk: str) -> dict[str, Any]:
    """Ask every side in turn, round after round, with the cookies of many sessions."""
    when = now()
    found: dict[tuple[str, str], list[Load]] = {}
    skipped: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        loads: dict[tuple[str, str], Callable[[], Awaitable[Load]]] = {}
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
                loads[name, op] = partial(_asked, wrk, seconds, script, port)
        for number in range(rounds + 1):  # the first warms up
            for side_and_op in sorted(loads, key=lambda key: list(PATHS).index(key[1])):
                load = await loads[side_and_op]()
                if number:
                    found.setdefault(side_and_op, []).append(load)
            say(
                "web: "
                + ", ".join(f"{name}, {op} {each[-1].rate:,.0f}" for (name, op), each in found.items())
            )
    rows = [
        {"name": name, "op": op, "rates": [load.rate for load in each], "cpu": [load.cpu for load in each]}
        | when
        for (name, op), each in found.items()
    ]
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
                if process.returncode is not None:
                    raise Unavailable("its app does not start: is what it needs installed?")
                await asyncio.sleep(0.1)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def login(port: int) -> str:
    """The cookie of a new session; of an app without sessions, one that it does not look at."""
    found = re.search(r"(?i)^set-cookie: ([^;\r]*)", await _answer(port, "/login"), re.MULTILINE)
    return found[1] if found else "session=none"


async def _answer(port: int, path: str) -> str:
    """The response to a request, with its headers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def _cpu(port: int) -> float:
    found = re.search(r"^\d+\.\d+(e-\d+)?\r?$", answer := await _answer(port, "/cpu"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the app did not tell its CPU seconds: {answer}")
    return float(found[0])


async def _asked(wrk: str, seconds: int, script: Path, port: int) -> Load:
    before = await _cpu(port)
    process = await asyncio.create_subprocess_exec(
        *(wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/"),
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    if "Non-2xx" in output or rate is None or count is None:
        raise RuntimeError(f"wrk: {output}")
    return Load(float(rate[1]), (await _cpu(port) - before) / int(count[1]) * 10_000)
