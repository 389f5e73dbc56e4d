"""A proxy that loses requests, answers and connections at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306}
LONGEST = 0.06
"""Seconds that a client waits at most for an answer that is lost: time for others to write."""


class LossyProxy:
    """Forwards connections to a server.

    Attributes:
        url: The database's, by way of the proxy.
        rate: The share of requests that come to grief, from 0 to 1.
        lost: How many have.
    """

    def __init__(self, url: str, seed: str) -> None:
        self._target = make_url(url)
        self._random = random.Random(seed)
        self._handlers: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.rate = 0.0
        self.lost = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, seed: str) -> AsyncIterator[Self]:
        proxy = cls(url, seed)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = proxy._target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        try:
            yield proxy
        finally:
            server.close()
            for client in proxy._clients:
                client.transport.abort()
            await asyncio.gather(*proxy._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self._clients.add(writer)
        task.add_done_callback(self._handlers.discard)
        try:
            port = self._target.port or PORTS[self._target.get_backend_name()]
            upstream, server = await asyncio.open_connection(self._target.host or "127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            self._clients.discard(writer)
            return
        answers = asyncio.create_task(_forward(upstream, writer))
        with suppress(ConnectionError):
            while request := await reader.read(1 << 20):
                if self._random.random() < self.rate:
                    self.lost += 1
                    await self._lose(request, upstream, server, answers)
                    break
                server.write(request)
                await server.drain()
        answers.cancel()
        writer.transport.abort()
        server.transport.abort()
        self._clients.discard(writer)
        await asyncio.gather(answers, return_exceptions=True)

    async def _lose(
        self,
        request: bytes,
        upstream: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        """Lose a request before the server has it, or its answer, or the connection meanwhile."""
        fate = self._random.random()
        if fate < 0.25:
            return
        answers.cancel()
        await asyncio.gather(answers, return_exceptions=True)
        server.write(request)
        if fate < 0.85:
            with suppress(TimeoutError):
                await asyncio.wait_for(upstream.read(1 << 20), 1)
        server.transport.abort() if fate < 0.85 else server.close()
        await asyncio.sleep(self._random.random() * LONGEST)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while answer := await reader.read(1 << 20):
            writer.write(answer)
    writer.transport.abort()
