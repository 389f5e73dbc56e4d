"""A proxy that puts a server some time away: `python -m benchmarks.distance HOST PORT SECONDS`.

It prints the port at which it listens. Each way takes half of the time, and what comes later waits for nothing: as many
bytes may be under way as there are.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379}


@asynccontextmanager
async def further_away(url: str, seconds: float) -> AsyncIterator[str]:
    """The URL at which a server is further away.

    Args:
        url: Where it is.
        seconds: What each round trip takes more.
    """
    target = make_url(url)
    port = str(target.port or PORTS[target.get_backend_name()])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, target.host or "127.0.0.1", port, str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        nearer = target.set(host="127.0.0.1", port=int(await process.stdout.readline()))
        yield nearer.render_as_string(hide_password=False)
    finally:
        process.kill()
        await process.wait()


class _Way(asyncio.Protocol):
    """What comes from one side, for the other."""

    transport: asyncio.Transport
    to: asyncio.Transport

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, bytes]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._due.append((self._loop.time() + self._delay, data))
        if len(self._due) == 1:
            self._loop.call_later(self._delay, self._send)

    def _send(self) -> None:
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            self.to.write(self._due.popleft()[1])
        if self._due:
            self._loop.call_at(self._due[0][0], self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        if hasattr(self, "to"):
            self._loop.call_later(self._delay, self.to.close)


class _FromClient(_Way):
    """What a client sends; its connection opens one to the server."""

    def __init__(self, delay: float, host: str, port: int) -> None:
        super().__init__(delay)
        self._server = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            server, way = await self._loop.create_connection(lambda: _Way(self._delay), *self._server)
        except OSError:
            self.transport.abort()
            return
        self.to, way.to = server, self.transport
        self.transport.resume_reading()


async def _serve(host: str, port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _FromClient(seconds / 2, host, port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _loop() -> asyncio.AbstractEventLoop:
    # epoll and poll wait for whole milliseconds, select does not; it has room for 500 connections.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
