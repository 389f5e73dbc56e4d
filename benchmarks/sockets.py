"""What many open WebSockets cost that end with their sessions, and how soon they end.

Run as ``python -m benchmarks.sockets --url URL``. A service of one process, on uvicorn, has a socket open for each
of 10,000 sessions. Sessions are revoked by this process, which is another one. The database should be a scratch one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sqlsessions import SessionInfo, SqlSessionStorage, Successor, new_session_id, schema
from sqlsessions.delegating import DelegatingStorage
from sqlsessions.integrations.starlette import SessionMiddleware, alive

from .own_servers import free_port

AT_ONCE = 100  # handshakes, and writes
PATIENCE = 120.0  # seconds


class Counting(DelegatingStorage):
    """Counts the questions about open connections, each of which is a statement."""

    # ruff: noqa: D102 (of the contract)

    questions = 0

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        self.questions += 1
        return await super().infos(keys)

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:
        self.questions += 1
        return await super().successors(keys)


def service(url: str, *, watches: bool) -> Starlette:
    """An application with one kind of WebSocket, and the figures of its process."""
    storage = Counting(SqlSessionStorage(url))

    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        if watches:
            async with alive(websocket):
                await websocket.receive()
        else:
            await websocket.receive()

    async def figures(_: Request) -> JSONResponse:
        return JSONResponse(
            {"cpu": time.process_time(), "statements": storage.questions, "at": time.monotonic()}
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with storage:
            yield

    return Starlette(
        routes=[WebSocketRoute("/live", live), Route("/figures", figures)],
        middleware=[Middleware(SessionMiddleware, storage=storage)],
        lifespan=lifespan,
    )


def serve(url: str, port: int, *, watches: bool) -> None:
    """Run the service."""
    uvicorn.run(
        service(url, watches=watches),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        ws="websockets-sansio",
        ws_ping_interval=None,
        backlog=4096,
        timeout_graceful_shutdown=1,
    )


class Client:
    """A socket that notes when it is closed."""

    def __init__(self, port: int, id: str) -> None:
        self._port = port
        self._id = id
        self.closed: asyncio.Task[float] | None = None

    async def open(self) -> None:
        """Open it."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(
            f"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Cookie: session={self._id}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        self.closed = asyncio.create_task(self._wait(reader))

    async def _wait(self, reader: asyncio.StreamReader) -> float:
        await reader.read(1)  # of the closing frame
        at = time.monotonic()
        self._writer.close()
        return at


async def request(port: int) -> dict[str, Any]:
    """The figures of the service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /figures HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    found: dict[str, Any] = json.loads(body)
    return found


async def over(port: int, seconds: float, work: Any = None) -> tuple[float, float]:
    """Statements and seconds of CPU, each a minute, while something goes on for some time."""
    before = await request(port)
    if work is None:
        await asyncio.sleep(seconds)
    else:
        await work(seconds)
    after = await request(port)
    minutes = (after["at"] - before["at"]) / 60
    return (after["statements"] - before["statements"]) / minutes, (after["cpu"] - before["cpu"]) / minutes


async def gathered(work: list[Any]) -> None:
    """Await all, some at a time."""
    for start in range(0, len(work), AT_ONCE):
        await asyncio.gather(*work[start : start + AT_ONCE])


async def measure(url: str, port: int, sockets: int, seconds: float, writes: int) -> None:
    """Open the sockets, and print what was found."""
    async with SqlSessionStorage(url) as storage:
        ids = [new_session_id() for _ in range(sockets)]
        await gathered(
            [storage.write_bytes(id, b'{"a": 1}', subject="one" if id == ids[0] else "all") for id in ids]
        )
        while True:
            try:
                await request(port)
                break
            except OSError:
                await asyncio.sleep(0.1)
        clients = [Client(port, id) for id in ids]
        before, started = await request(port), time.monotonic()
        await gathered([client.open() for client in clients])
        cpu = (await request(port))["cpu"] - before["cpu"]
        print(f"{sockets} sockets opened in {time.monotonic() - started:.1f} s, {cpu:.1f} s of CPU")

        statements, cpu = await over(port, seconds)
        print(f"idle: {statements:.0f} statements and {cpu:.2f} s of CPU a minute")

        async def write(seconds: float) -> None:
            started = time.monotonic()
            for number in range(int(seconds * writes)):
                await storage.write_bytes(ids[number * 7 % sockets], b'{"a": %d}' % number)
                await asyncio.sleep(max(0.0, started + number / writes - time.monotonic()))

        if writes:
            statements, cpu = await over(port, seconds, write)
            print(f"{writes} writes a second: {statements:.0f} statements and {cpu:.2f} s of CPU a minute")
        for subject, ended in (("one", clients[:1]), ("all", clients[1:])):
            started = time.monotonic()
            number = await storage.revoke(subject)
            took = time.monotonic() - started
            closed = [await asyncio.wait_for(client.closed, PATIENCE) for client in ended if client.closed]
            first, last = min(closed) - started, max(closed) - started
            print(
                f"revoke of {number}: {took:.3f} s; first socket closed after {first:.3f} s, last {last:.3f} s"
            )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sockets", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--writes", type=int, default=100, help="writes a second to sessions that have a socket"
    )
    parser.add_argument("--unwatched", action="store_true", help="sockets that do not end, for comparison")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.url, options.serve, watches=not options.unwatched)
        return
    asyncio.run(schema.upgrade(options.url))
    port = free_port()
    unwatched = ["--unwatched"] if options.unwatched else []
    command = [
        sys.executable,
        "-m",
        "benchmarks.sockets",
        "--url",
        options.url,
        "--serve",
        str(port),
        *unwatched,
    ]
    with subprocess.Popen(command) as process:
        try:
            asyncio.run(measure(options.url, port, options.sockets, options.seconds, options.writes))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
