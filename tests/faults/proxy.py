"""A proxy between a storage and its server that is as bad a network as it is told to be."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal, Self

from sqlalchemy import make_url

PORTS = {"postgresql": 5432, "mysql": 3306}
PIECE = 1 << 20
Loss = Literal["request", "answer", "silence"]


class Connection:
    """One client's.

    Attributes:
        dead: Whether what comes in, from either side, is lost from now on, and neither side knows.
        held: Cleared while answers of the server are held back.
        answered: Set once it has answered meanwhile.
    """

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.dead = False
        self.held = asyncio.Event()
        self.held.set()
        self.answered = asyncio.Event()

    def reset(self) -> None:
        """End it the hard way, on both sides."""
        for side in (self.client, self.server):
            abort(side)


class Proxy:
    """Forwards connections.

    Attributes:
        url: The database's, by way of the proxy.
        lost: Whether the loss that was asked for has come about.
        delay: Seconds that each piece takes, in each direction.
        bandwidth: Bytes a second, in each direction of each connection; None is as many as there are.
        refusing: Whether new connections are reset at once.
        swallowing: How the answer to a COMMIT is lost: with its connection, without a word, or not at all.
        swallowed: How many were.
        opened: How many connections there have been.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self.connections: set[Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._left = 0
        self._what: Loss = "request"
        self._meanwhile: Callable[[], Awaitable[object]] | None = None
        self._dropping = False
        self._healed = asyncio.Event()
        self._healed.set()
        self.delay = 0.0
        self.bandwidth: float | None = None
        self.refusing = False
        self.swallowing: Literal["reset", "silence"] | None = None
        self.swallowed = 0
        self.lost = False
        self.opened = 0
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        """A proxy to a database's server."""
        proxy = cls(url)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = proxy._target.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        try:
            yield proxy
        finally:
            server.close()
            proxy.heal()
            proxy.cut()
            await asyncio.gather(*proxy._handlers)

    def lead_to(self, port: int) -> None:
        """Reset every connection, and let new ones go to another port."""
        self._target = self._target.set(port=port)
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for connection in list(self.connections):
            connection.reset()

    def close(self) -> None:
        """End every connection the soft way."""
        for connection in list(self.connections):
            for side in (connection.client, connection.server):
                side.close()

    def drop(self, *, half_open: bool = False) -> None:
        """Lose what is sent from now on, on connections old and new, and say nothing.

        A connection that lost something stays so when the network is well again.

        Args:
            half_open: Let the old connections be dead also if they are idle now.
        """
        self._dropping = True
        self._healed.clear()
        if half_open:
            for connection in self.connections:
                connection.dead = True

    def heal(self) -> None:
        """Forward everything again, as fast as can be."""
        self._dropping = self.refusing = False
        self.delay, self.bandwidth, self.swallowing = 0.0, None, None
        self._healed.set()

    @contextmanager
    def losing(
        self, what: Loss, nth: int, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> Iterator[None]:
        """Lose the n-th request from now on, or the answer to it, and the connection with it.

        Args:
            what: Which of the two; or that nothing more comes through, and nobody is told.
            nth: Counted over all connections.
            meanwhile: Awaited once the server's connection is gone, and before the client's is.
        """
        self._what, self._left, self._meanwhile, self.lost = what, nth, meanwhile, False
        try:
            yield
        finally:
            self._left = 0

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        self.opened += 1
        if self.refusing:
            abort(client)
            return
        port = self._target.port or PORTS[self._target.get_backend_name()]
        try:
            upstream, server = await asyncio.open_connection(self._target.host or "127.0.0.1", port)
        except OSError:
            abort(client)
            return
        connection = Connection(client, server)
        self.connections.add(connection)
        answers = asyncio.create_task(self._answers(upstream, connection))
        with suppress(OSError):
            await self._requests(reader, connection)
        if connection.dead:  # the server hears of it when the network is well
            abort(client)
            await self._healed.wait()
        connection.reset()
        await answers
        self.connections.discard(connection)

    async def _requests(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        while request := await reader.read(PIECE):
            await self._slowly(request)
            if self._lost(connection):
                continue
            self._left -= 1
            if self._left == 0:
                self.lost = True
                if self._what == "silence":
                    connection.dead = True
                    continue
                if self._what == "answer":
                    await self._without_answer(request, connection)
                    abort(connection.server)
                    if self._meanwhile:
                        await self._meanwhile()
                return
            # On PostgreSQL most changes are one prepared statement (a Bind message), which commits itself.
            if self.swallowing and (b"COMMIT" in request or request[:1] == b"B"):
                self.swallowed += 1
                silently = self.swallowing == "silence"
                await self._without_answer(request, connection)
                if not silently:
                    return
                connection.dead = True
                continue
            connection.server.write(request)
            await connection.server.drain()

    async def _without_answer(self, request: bytes, connection: Connection) -> None:
        connection.held.clear()
        connection.answered.clear()
        connection.server.write(request)
        await connection.answered.wait()

    async def _answers(self, upstream: asyncio.StreamReader, connection: Connection) -> None:
        with suppress(OSError):
            while answer := await upstream.read(PIECE):
                if not connection.held.is_set():
                    connection.answered.set()
                    continue
                await self._slowly(answer)
                if not self._lost(connection):
                    connection.client.write(answer)
                    await connection.client.drain()
        connection.answered.set()
        if connection.held.is_set() and not connection.dead:
            abort(connection.client)

    async def _slowly(self, piece: bytes) -> None:
        seconds = self.delay + (len(piece) / self.bandwidth if self.bandwidth else 0)
        if seconds:
            await asyncio.sleep(seconds)

    def _lost(self, connection: Connection) -> bool:
        """Whether this connection loses what comes in now."""
        connection.dead = connection.dead or self._dropping
        return connection.dead


def abort(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    if (raw := writer.get_extra_info("socket")) is not None and raw.fileno() >= 0:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
