"""Open WebSockets and streams of a service, as its clients see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
from aiohttp import ClientSession, DummyCookieJar, WSMsgType, web
from aiohttp.test_utils import BaseTestServer, TestServer

PATIENCE = 10.0  # seconds

App = Callable[..., Awaitable[None]]


class Closed(Exception):
    """The service closed the connection.

    Attributes:
        code: The code of a WebSocket; None for a stream, and for a connection that was only dropped.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Connection(Protocol):
    """An open WebSocket or stream."""

    async def send(self, text: str) -> None:
        """Send a message to a WebSocket."""

    async def receive(self) -> str:
        """The next message, or piece of a stream; raises `Closed`."""

    async def leave(self) -> None:
        """Close it, and wait until the service is done with it."""


class Client(Protocol):
    """Opens connections with the session of an id."""

    def connect(self, path: str, id: str | None = None) -> AbstractAsyncContextManager[Connection]:
        """Open a WebSocket."""

    def stream(self, path: str, id: str | None = None) -> AbstractAsyncContextManager[Connection]:
        """Begin a streamed response."""


class AsgiConnection:
    """A connection to an ASGI application, in a task of its own."""

    def __init__(self, app: App, kind: str, path: str, id: str | None) -> None:
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        path, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws" if kind == "websocket" else "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [] if id is None else [(b"cookie", f"session={id}".encode())],
            "client": ("127.0.0.1", 50000),
            "server": ("service.test", 80),
            "subprotocols": [],
            "state": {},
        }
        first = (
            {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request", "body": b""}
        )
        if kind == "http":
            scope["method"] = "GET"
        self._received.put_nowait(first)
        self._kind = kind
        self.serving = asyncio.create_task(self._serve(app, scope))

    async def _serve(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self._received.get, self._sent.put)
        finally:
            self._sent.put_nowait(None)

    async def send(self, text: str) -> None:
        await self._received.put({"type": "websocket.receive", "text": text, "bytes": None})

    async def receive(self) -> str:
        async with asyncio.timeout(PATIENCE):
            while (message := await self._sent.get()) is not None:
                if message["type"] == "websocket.send":
                    return str(message["text"])
                if message["type"] == "websocket.close":
                    raise Closed(message.get("code", 1000))
                if message["type"] != "http.response.body":
                    continue
                if message["body"]:
                    return bytes(message["body"]).decode()
                if not message.get("more_body", False):
                    break
        raise Closed(None)

    async def leave(self) -> None:
        message: dict[str, Any] = {"type": f"{self._kind}.disconnect"}
        if self._kind == "websocket":
            message |= {"code": 1001, "reason": ""}
        await self._received.put(message)
        await asyncio.wait([self.serving], timeout=PATIENCE)
        assert self.serving.done()


class AsgiClient:
    """Opens connections to an ASGI application."""

    def __init__(self, app: App) -> None:
        self._app = app

    def connect(self, path: str, id: str | None = None) -> AbstractAsyncContextManager[AsgiConnection]:
        return self._open("websocket", path, id)

    def stream(self, path: str, id: str | None = None) -> AbstractAsyncContextManager[AsgiConnection]:
        return self._open("http", path, id)

    @asynccontextmanager
    async def _open(self, kind: str, path: str, id: str | None) -> AsyncIterator[AsgiConnection]:
        connection = AsgiConnection(self._app, kind, path, id)
        try:
            yield connection
        finally:
            await connection.leave()
            if not connection.serving.cancelled():
                connection.serving.exception()  # which the tests of errors want


class AioHttpSocket:
    """A WebSocket of aiohttp's client."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        await self._socket.send_str(text)

    async def receive(self) -> str:
        message = await self._socket.receive(PATIENCE)
        if message.type is not WSMsgType.TEXT:
            raise Closed(self._socket.close_code)
        return str(message.data)

    async def leave(self) -> None:
        await self._socket.close()


class AioHttpStream:
    """A response that aiohttp's client reads piece by piece."""

    def __init__(self, response: Any) -> None:
        self._response = response

    async def send(self, text: str) -> None:
        pytest.fail(f"a stream takes no {text}")

    async def receive(self) -> str:
        async with asyncio.timeout(PATIENCE):
            piece = await self._response.content.readany()
        if not piece:
            raise Closed(None)
        return bytes(piece).decode()

    async def leave(self) -> None:
        self._response.close()


class AioHttpClient:
    """Opens connections to a server of aiohttp."""

    def __init__(self, server: BaseTestServer, session: ClientSession) -> None:
        self._server = server
        self._session = session

    @asynccontextmanager
    async def connect(self, path: str, id: str | None = None) -> AsyncIterator[AioHttpSocket]:
        async with self._session.ws_connect(self._server.make_url(path), headers=_cookie(id)) as socket:
            yield AioHttpSocket(socket)

    @asynccontextmanager
    async def stream(self, path: str, id: str | None = None) -> AsyncIterator[AioHttpStream]:
        async with self._session.get(self._server.make_url(path), headers=_cookie(id)) as response:
            yield AioHttpStream(response)


@asynccontextmanager
async def aiohttp_client(app: web.Application) -> AsyncIterator[AioHttpClient]:
    """Serve an application of aiohttp."""
    async with (
        TestServer(app, handler_cancellation=True) as server,
        ClientSession(cookie_jar=DummyCookieJar()) as session,
    ):
        yield AioHttpClient(server, session)


def _cookie(id: str | None) -> dict[str, str]:
    return {} if id is None else {"Cookie": f"session={id}"}
