"""A proxy between a storage and its server that loses connections when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal, Self

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306}
Loss = Literal["request", "answer"]


class Proxy:
    """Forwards connections.

    Attributes:
        url: The database's, by way of the proxy.
        lost: Whether the loss that was asked for has come about.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._clients: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._left = 0
        self._what: Loss = "request"
        self._meanwhile: Callable[[], Awaitable[object]] | None = None
        self.lost = False
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
            proxy.cut()
            await asyncio.gather(*proxy._handlers)

    def cut(self) -> None:
        """Reset every connection."""
        for client in self._clients:
            client.transport.abort()

    @contextmanager
    def losing(
        self, what: Loss, nth: int, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> Iterator[None]:
        """Lose the n-th request from now on, or the answer to it, and the connection with it.

        Args:
            what: Which of the two.
            nth: Counted over all connections.
            meanwhile: Awaited once the server's connection is gone, and before the client's is.
        """
        self._what, self._left, self._meanwhile, self.lost = what, nth, meanwhile, False
        try:
            yield
        finally:
            self._left = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        port = self._target.port or PORTS[self._target.get_backend_name()]
        upstream, server = await asyncio.open_connection(self._target.host or "127.0.0.1", port)
        self._clients.add(writer)
        answering, answered = asyncio.Event(), asyncio.Event()
        answering.set()
        answers = asyncio.create_task(self._answers(upstream, writer, answering, answered))
        with suppress(ConnectionError):
            while request := await reader.read(1 << 20):
                self._left -= 1
                if self._left == 0:
                    self.lost = True
                    if self._what == "answer":
                        answering.clear()
                        server.write(request)
                        await answered.wait()
                        server.transport.abort()
                        if self._meanwhile:
                            await self._meanwhile()
                    break
                server.write(request)
                await server.drain()
        writer.transport.abort()
        server.transport.abort()
        self._clients.discard(writer)
        await answers

    async def _answers(
        self,
        upstream: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answering: asyncio.Event,
        answered: asyncio.Event,
    ) -> None:
        with suppress(ConnectionError):
            while answer := await upstream.read(1 << 20):
                if answering.is_set():
                    client.write(answer)
                else:
                    answered.set()
        answered.set()
        if answering.is_set():
            client.transport.abort()
