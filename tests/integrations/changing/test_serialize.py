"""``serialize``: requests of one session that wait for each other, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp_session
import pytest
from aiohttp import ClientSession, CookieJar, web
from aiohttp.test_utils import TestServer
from flask import Flask, session
from quart import Quart
from quart import session as quart_session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from sqlsessions import InvalidArgument, SessionStorageMemory
from sqlsessions.integrations import aiohttp as by_aiohttp
from sqlsessions.integrations import flask as by_flask
from sqlsessions.integrations import quart as by_quart
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.testing import Browser, asgi
from sqlsessions.testing._base import PATIENCE


class Held:
    """A service some of whose requests keep the session until they are let go."""

    def __init__(self, serialize: bool | float) -> None:
        self.storage = SessionStorageMemory()
        self.inside = asyncio.Event()
        self.go = asyncio.Event()
        routes = [
            Route("/put", self.put, methods=["POST"]),
            Route("/hold", self.hold, methods=["POST"]),
            Route("/fail", self.fail, methods=["POST"]),
            Route("/stream", self.stream, methods=["POST"]),
            Route("/untouched", self.untouched, methods=["POST"]),
            WebSocketRoute("/socket", self.socket),
        ]
        middleware = [Middleware(SessionMiddleware, storage=self.storage, serialize=serialize)]
        self.app = Starlette(routes=routes, middleware=middleware)
        self.browser = Browser(asgi(self.app), "session")

    @asynccontextmanager
    async def request(self, path: str) -> AsyncIterator[Browser]:
        """A request under way that has read the session; gives another browser."""
        id = await self.browser.begin(a=1)
        task = asyncio.create_task(self.browser.send("POST", path))
        await asyncio.wait_for(self.inside.wait(), PATIENCE)
        yield self.browser.other(id)
        self.go.set()
        await asyncio.wait_for(task, PATIENCE)

    async def put(self, request: Request) -> Response:
        request.session.update(request.query_params)
        return JSONResponse(None)

    async def hold(self, request: Request) -> Response:
        request.session.get("a")
        self.inside.set()
        await self.go.wait()
        return JSONResponse(None)

    async def fail(self, request: Request) -> Response:
        request.session.get("a")
        raise KeyError

    async def stream(self, request: Request) -> Response:
        request.session.get("a")

        async def body() -> AsyncIterator[bytes]:
            self.inside.set()
            await self.go.wait()
            yield b"end"

        return StreamingResponse(body())

    async def untouched(self, _request: Request) -> Response:
        return JSONResponse(None)

    async def socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(websocket.session.get("a"))
        await websocket.receive_text()


async def test_who_waits_for_too_long_gets_a_503() -> None:
    service = Held(serialize=0.01)
    async with service.request("/hold") as other:
        response = await other.send("POST", "/put", b=1)
        assert response.status == 503
        assert response.all("Retry-After") == ["1"]
        assert not response.all("Set-Cookie")
        await other.post("/untouched")
    await other.post("/put", b=1)


async def test_visitors_do_not_wait_for_each_other() -> None:
    service = Held(serialize=0.01)
    async with service.request("/hold") as other:
        await other.other().post("/put", b=1)


async def test_a_request_that_fails_lets_the_next_one_in() -> None:
    service = Held(serialize=0.01)
    await service.browser.begin(a=1)
    with pytest.raises(KeyError):
        await service.browser.post("/fail")
    await service.browser.post("/put", b=1)


async def test_a_stream_lets_the_next_one_in_as_it_begins() -> None:
    service = Held(serialize=0.01)
    async with service.request("/stream") as other:
        await other.post("/put", b=1)


async def test_a_request_that_ends_its_session_lets_the_next_one_in() -> None:
    service = Held(serialize=0.01)
    async with service.request("/hold") as other:
        await service.storage.invalidate(other.has_id())
    await other.post("/put", b=1)


def test_a_websocket_holds_nobody() -> None:
    service = Held(serialize=0.01)
    with TestClient(service.app) as client:
        client.post("/put", params={"a": "1"})
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_json() == "1"
            assert client.post("/put", params={"b": "1"}).status_code == 200
            socket.send_text("end")


def test_flask_needs_init_app() -> None:
    app = Flask(__name__)
    app.session_interface = by_flask.SqlSessionInterface(SessionStorageMemory(), serialize=True)
    app.add_url_rule("/", view_func=lambda: dict(session))
    app.testing = True
    with pytest.raises(InvalidArgument, match="init_app"):
        app.test_client().get("/")


def test_flask_lets_the_next_one_in_after_an_error() -> None:
    app = Flask(__name__)
    by_flask.SqlSessionInterface(SessionStorageMemory(), serialize=0.01).init_app(app)

    def fail() -> str:
        session["failed"] = True
        raise KeyError

    def put() -> dict[str, object]:
        session["a"] = 1
        return dict(session)

    app.add_url_rule("/fail", view_func=fail)
    app.add_url_rule("/put", view_func=put)
    app.testing = True
    client = app.test_client()
    client.get("/put")
    with pytest.raises(KeyError):
        client.get("/fail")
    assert client.get("/put").get_json() == {"a": 1}


async def test_quart_needs_init_app() -> None:
    app = Quart(__name__)
    app.session_interface = by_quart.SqlSessionInterface(SessionStorageMemory(), serialize=True)  # type: ignore[assignment]
    app.add_url_rule("/", view_func=lambda: dict(quart_session))
    app.testing = True
    response = await app.test_client().get("/")
    assert response.status_code == 500
    assert "init_app" in await response.get_data(as_text=True)


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_aiohttp_needs_setup_and_lets_the_next_one_in_after_an_error() -> None:
    async def put(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        session["a"] = 1
        if "fail" in request.query:
            raise KeyError
        return web.Response()

    for setup, statuses in ((aiohttp_session.setup, [500]), (by_aiohttp.setup, [200, 500, 200])):
        app = web.Application()
        setup(app, by_aiohttp.AioHttpStorage(SessionStorageMemory(), serialize=0.01))
        app.router.add_get("/", put)
        async with TestServer(app) as server, ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
            for number, status in enumerate(statuses):
                async with client.get(server.make_url("/" if number != 1 else "/?fail")) as response:
                    assert response.status == status
