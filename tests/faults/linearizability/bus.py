"""A proxy in front of what carries notices, which can be cut, paused and taken away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306, "redis": 6379}
LONGEST = 0.3  # seconds that a fault lasts


class BusProxy:
    """Forwards connections to a server.

    Attributes:
        url: The server's, by way of the proxy.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._flows = asyncio.Event()
        self._flows.set()
        self._away = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        proxy = cls(url)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = proxy._target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        try:
            yield proxy
        finally:
            server.close()
            proxy._flows.set()
            proxy._cut()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    async def fail(self, chance: random.Random) -> None:
        """Lose the connections, hold back what they carry, or be away, for a while."""
        fault = chance.choice(["cut", "paused", "away"])
        if fault == "paused":
            self._flows.clear()
        else:
            self._cut()
        self._away = fault == "away"
        try:
            await asyncio.sleep(0 if fault == "cut" else chance.uniform(0.05, LONGEST))
        finally:
            self._away = False
            self._flows.set()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        port = self._target.port or PORTS[self._target.get_backend_name()]
        try:
            upstream, server = await asyncio.open_connection(self._target.host or "127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server}
        for task in (
            asyncio.create_task(self._forward(reader, server)),
            asyncio.create_task(self._forward(upstream, writer)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flows.wait()
                writer.write(data)
        writer.transport.abort()
        self._writers.discard(writer)
