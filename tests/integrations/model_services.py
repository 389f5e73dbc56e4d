"""A service in each framework but FastAPI whose sessions hold a model, by `SessionModel`.

Each has ``/put?item=``, which changes the model that it is given, ``/add?item=`` by `change`, ``/look``, ``/gift``,
which changes another field, and ``/spoil``, which stores what the model does not accept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import flask
import msgspec
import pydantic
import quart
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.di import NamedDependency, Provide
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from sqlsessions.integrations import aiohttp as aiohttp_sessions
from sqlsessions.integrations import flask as flask_sessions
from sqlsessions.integrations import litestar as litestar_sessions
from sqlsessions.integrations import quart as quart_sessions
from sqlsessions.integrations import starlette as starlette_sessions
from sqlsessions.testing import SpyStorage

Ask = Callable[[str], Any]
Service = Callable[..., AbstractAsyncContextManager[Ask]]


class Model(pydantic.BaseModel):
    items: list[str] = []
    gift: bool = False


class Struct(msgspec.Struct):
    items: list[str] = []
    gift: bool = False


@dataclasses.dataclass
class Plain:
    items: list[str] = dataclasses.field(default_factory=list)
    gift: bool = False


@pydantic.dataclasses.dataclass
class Checked:
    items: list[str] = dataclasses.field(default_factory=list)
    gift: bool = False


MODELS: list[Any] = [Model, Struct, Plain, Checked]


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[Ask]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://a.test") as client:

        async def answer(path: str) -> Any:
            return (await client.get(path)).json()

        yield answer


@asynccontextmanager
async def starlette(storage: SpyStorage, kind: type[Any] = Plain) -> AsyncIterator[Ask]:
    carts = starlette_sessions.SessionModel[Any](kind, "cart")

    async def put(request: StarletteRequest) -> JSONResponse:
        cart = await carts(request)
        cart.items.append(request.query_params["item"])
        return JSONResponse(cart.items)

    async def add(request: StarletteRequest) -> JSONResponse:
        item = request.query_params["item"]
        return JSONResponse(await carts.change(request, lambda cart: cart.items.append(item)))

    async def look(request: StarletteRequest) -> JSONResponse:
        cart = await carts(request)
        return JSONResponse([cart.items, cart.gift])

    async def gift(request: StarletteRequest) -> JSONResponse:
        cart = await carts(request)
        await asyncio.sleep(0)
        cart.gift = True
        return JSONResponse(None)

    async def spoil(request: StarletteRequest) -> JSONResponse:
        request.session["cart"] = {"items": 7}
        return JSONResponse(None)

    routes = [Route(f"/{each.__name__}", each) for each in (put, add, look, gift, spoil)]
    middleware = Middleware(starlette_sessions.SessionMiddleware, storage=storage)
    async with client_of(Starlette(routes=routes, middleware=[middleware])) as client:
        yield client


def litestar_app(storage: SpyStorage, kind: type[Any]) -> Litestar:
    carts = litestar_sessions.SessionModel[Any](kind, "cart")

    @get("/put")
    async def put(request: Request[Any, Any, Any], cart: Any) -> list[str]:
        cart.items.append(request.query_params["item"])
        return list(cart.items)

    @get("/add")
    async def add(request: Request[Any, Any, Any]) -> None:
        item = request.query_params["item"]
        await carts.change(request, lambda cart: cart.items.append(item))

    @get("/look")
    async def look(cart: Any) -> list[Any]:
        return [cart.items, cart.gift]

    @get("/gift")
    async def gift(cart: Any) -> None:
        await asyncio.sleep(0)
        cart.gift = True

    @get("/spoil")
    async def spoil(request: Request[Any, Any, Any]) -> None:
        request.session["cart"] = {"items": 7}

    @websocket("/socket")
    async def socket(socket: WebSocket[Any, Any, Any], cart: Any) -> None:
        await socket.accept()
        await socket.send_json(cart.items)
        cart.items.append("by socket")
        await socket.close()

    given: Any = NamedDependency
    for handler in (put, look, gift, socket):
        handler.fn.__annotations__["cart"] = given[kind]
    config = litestar_sessions.SessionConfig(storage)
    return Litestar(
        [put, add, look, gift, spoil, socket],
        middleware=[config.middleware],
        dependencies={"cart": Provide(carts)},
        logging_config=None,
        debug=True,
    )


@asynccontextmanager
async def litestar_(storage: SpyStorage, kind: type[Any] = Plain) -> AsyncIterator[Ask]:
    async with client_of(litestar_app(storage, kind)) as client:
        yield client


@asynccontextmanager
async def aiohttp_(storage: SpyStorage, kind: type[Any] = Plain) -> AsyncIterator[Ask]:
    carts = aiohttp_sessions.SessionModel[Any](kind, "cart")

    async def put(request: web.Request) -> web.Response:
        cart = await carts(request)
        cart.items.append(request.query["item"])
        return web.json_response(cart.items)

    async def add(request: web.Request) -> web.Response:
        item = request.query["item"]
        return web.json_response(await carts.change(request, lambda cart: cart.items.append(item)))

    async def look(request: web.Request) -> web.Response:
        cart = await carts(request)
        return web.json_response([cart.items, cart.gift])

    async def gift(request: web.Request) -> web.Response:
        cart = await carts(request)
        await asyncio.sleep(0)
        cart.gift = True
        return web.json_response(None)

    async def spoil(request: web.Request) -> web.Response:
        (await aiohttp_sessions.current_session(request))["cart"] = {"items": 7}
        return web.json_response(None)

    async def socket(request: web.Request) -> web.StreamResponse:
        cart = await carts(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json(cart.items)
        cart.items.append("by socket")
        await socket.close()
        return socket

    app = web.Application()
    aiohttp_sessions.setup(app, aiohttp_sessions.AioHttpStorage(storage))
    app.add_routes([web.get(f"/{each.__name__}", each) for each in (put, add, look, gift, spoil, socket)])
    async with TestClient(TestServer(app)) as client:

        async def answer(path: str) -> Any:
            if path == "/socket":
                async with client.ws_connect(path) as connection:
                    return await connection.receive_json()
            return json.loads(await (await client.get(path)).read() or "null")

        yield answer


@asynccontextmanager
async def flask_(storage: SpyStorage, kind: type[Any] = Plain) -> AsyncIterator[Ask]:
    app = flask.Flask(__name__)
    flask_sessions.SqlSessionInterface(storage).init_app(app)
    carts = flask_sessions.SessionModel[Any](kind, "cart")

    @app.get("/put")
    def put() -> flask.Response:
        cart = carts()
        cart.items.append(flask.request.args["item"])
        return flask.jsonify(cart.items)

    @app.get("/add")
    def add() -> flask.Response:
        item = flask.request.args["item"]
        return flask.jsonify(carts.change(lambda cart: cart.items.append(item)))

    @app.get("/look")
    def look() -> flask.Response:
        cart = carts()
        return flask.jsonify([cart.items, cart.gift])

    @app.get("/gift")
    def gift() -> flask.Response:
        carts().gift = True
        return flask.jsonify(None)

    @app.get("/spoil")
    def spoil() -> flask.Response:
        flask.session["cart"] = {"items": 7}
        return flask.jsonify(None)

    client = app.test_client()

    async def answer(path: str) -> Any:
        return (await asyncio.to_thread(client.get, path)).get_json()

    yield answer


def quart_app(storage: SpyStorage, kind: type[Any]) -> quart.Quart:
    app = quart.Quart(__name__)
    quart_sessions.SqlSessionInterface(storage).init_app(app)
    carts = quart_sessions.SessionModel[Any](kind, "cart")

    @app.get("/put")
    async def put() -> quart.Response:
        cart = await carts()
        cart.items.append(quart.request.args["item"])
        return quart.jsonify(cart.items)

    @app.get("/add")
    async def add() -> quart.Response:
        item = quart.request.args["item"]
        return quart.jsonify(await carts.change(lambda cart: cart.items.append(item)))

    @app.get("/look")
    async def look() -> quart.Response:
        cart = await carts()
        return quart.jsonify([cart.items, cart.gift])

    @app.get("/gift")
    async def gift() -> quart.Response:
        cart = await carts()
        await asyncio.sleep(0)
        cart.gift = True
        return quart.jsonify(None)

    @app.get("/stream")
    async def stream() -> quart.Response:
        cart = await carts()

        async def body() -> AsyncIterator[bytes]:
            yield b"null"
            cart.items.append("by stream")

        return quart.Response(body(), mimetype="application/json")

    @app.get("/spoil")
    async def spoil() -> quart.Response:
        quart.session["cart"] = {"items": 7}
        return quart.jsonify(None)

    @app.websocket("/socket")
    async def socket() -> None:
        cart = await carts()
        await quart.websocket.send_json(cart.items)
        cart.items.append("by socket")

    return app


@asynccontextmanager
async def quart_(storage: SpyStorage, kind: type[Any] = Plain) -> AsyncIterator[Ask]:
    async with client_of(quart_app(storage, kind)) as client:
        yield client


SERVICES = [starlette, litestar_, aiohttp_, flask_, quart_]
