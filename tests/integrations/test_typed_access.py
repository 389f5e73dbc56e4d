"""`current_session` of each framework: the session, typed. mypy checks this module as strictly as an application's.

Each service has ``/login``, ``/device``, whether the session is among those of its user, and ``/logout``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, assert_type

import flask
import pytest
import quart
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, Request, get
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from sqlsessions import SessionInfo, SessionStorageMemory
from sqlsessions.integrations import aiohttp as aiohttp_sessions
from sqlsessions.integrations import fastapi as fastapi_sessions
from sqlsessions.integrations import flask as flask_sessions
from sqlsessions.integrations import litestar as litestar_sessions
from sqlsessions.integrations import quart as quart_sessions
from sqlsessions.integrations import starlette as starlette_sessions

Get = Callable[[str], Any]
Service = Callable[[], AbstractAsyncContextManager[Get]]


def key_of(info: SessionInfo | None) -> str | None:
    return None if info is None else info.key


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[Get]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://a.test") as client:

        async def answer(path: str) -> Any:
            return (await client.get(path)).json()

        yield answer


@asynccontextmanager
async def starlette() -> AsyncIterator[Get]:
    async def login(request: StarletteRequest) -> JSONResponse:
        session = starlette_sessions.current_session(request)
        assert_type(session, starlette_sessions.Session)
        assert session is request.session
        session.subject = "ann"
        session["name"] = "Ann"
        return JSONResponse(None)

    async def device(request: StarletteRequest) -> JSONResponse:
        mine = key_of(fastapi_sessions.current_session(request).info)
        keys = [info.key async for info in starlette_sessions.list_sessions(request)]
        return JSONResponse(keys == [mine])

    async def logout(request: StarletteRequest) -> JSONResponse:
        starlette_sessions.current_session(request).invalidate()
        return JSONResponse(None)

    routes = [Route(f"/{each.__name__}", each) for each in (login, device, logout)]
    middleware = Middleware(starlette_sessions.SessionMiddleware, storage=SessionStorageMemory())
    async with client_of(Starlette(routes=routes, middleware=[middleware])) as client:
        yield client


@asynccontextmanager
async def litestar() -> AsyncIterator[Get]:
    @get("/login")
    async def login(request: Request[Any, Any, Any]) -> None:
        session = litestar_sessions.current_session(request)
        assert_type(session, litestar_sessions.Session)
        session.subject = "ann"
        session["name"] = "Ann"

    @get("/device")
    async def device(request: Request[Any, Any, Any]) -> bool:
        mine = key_of(litestar_sessions.current_session(request).info)
        return [info.key async for info in litestar_sessions.list_sessions(request)] == [mine]

    @get("/logout")
    async def logout(request: Request[Any, Any, Any]) -> None:
        litestar_sessions.current_session(request).invalidate()

    config = litestar_sessions.SessionConfig(SessionStorageMemory())
    app = Litestar([login, device, logout], middleware=[config.middleware], logging_config=None)
    async with client_of(app) as client:
        yield client


@asynccontextmanager
async def aiohttp() -> AsyncIterator[Get]:
    async def login(request: web.Request) -> web.Response:
        session = await aiohttp_sessions.current_session(request)
        assert_type(session, aiohttp_sessions.Session)
        session.subject = "ann"
        session["name"] = "Ann"
        return web.json_response(None)

    async def device(request: web.Request) -> web.Response:
        mine = key_of((await aiohttp_sessions.current_session(request)).info)
        keys = [info.key async for info in aiohttp_sessions.list_sessions(request)]
        return web.json_response(keys == [mine])

    async def logout(request: web.Request) -> web.Response:
        (await aiohttp_sessions.current_session(request)).invalidate()
        return web.json_response(None)

    app = web.Application()
    aiohttp_sessions.setup(app, aiohttp_sessions.AioHttpStorage(SessionStorageMemory()))
    app.add_routes([web.get(f"/{each.__name__}", each) for each in (login, device, logout)])
    async with TestClient(TestServer(app)) as client:

        async def answer(path: str) -> Any:
            return json.loads(await (await client.get(path)).read() or "null")

        yield answer


@asynccontextmanager
async def flask_() -> AsyncIterator[Get]:
    app = flask.Flask(__name__)
    flask_sessions.SqlSessionInterface(SessionStorageMemory()).init_app(app)

    @app.get("/login")
    def login() -> flask.Response:
        session = flask_sessions.current_session()
        assert_type(session, flask_sessions.SqlSession)
        session.subject = "ann"
        session["name"] = "Ann"
        return flask.jsonify(None)

    @app.get("/device")
    def device() -> flask.Response:
        mine = key_of(flask_sessions.current_session().info)
        return flask.jsonify([info.key for info in flask_sessions.list_sessions()] == [mine])

    @app.get("/logout")
    def logout() -> flask.Response:
        flask_sessions.current_session().invalidate()
        return flask.jsonify(None)

    client = app.test_client()

    async def answer(path: str) -> Any:
        return client.get(path).get_json()

    yield answer


@asynccontextmanager
async def quart_() -> AsyncIterator[Get]:
    app = quart.Quart(__name__)
    quart_sessions.SqlSessionInterface(SessionStorageMemory()).init_app(app)

    @app.get("/login")
    async def login() -> quart.Response:
        session = quart_sessions.current_session()
        assert_type(session, quart_sessions.SqlSession)
        session.subject = "ann"
        session["name"] = "Ann"
        return quart.jsonify(None)

    @app.get("/device")
    async def device() -> quart.Response:
        mine = key_of(quart_sessions.current_session().info)
        return quart.jsonify([info.key async for info in quart_sessions.list_sessions()] == [mine])

    @app.get("/logout")
    async def logout() -> quart.Response:
        quart_sessions.current_session().invalidate()
        return quart.jsonify(None)

    async with client_of(app) as client:
        yield client


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.parametrize(
    "service", [starlette, litestar, aiohttp, flask_, quart_], ids=lambda each: each.__name__
)
async def test_the_session_of_a_request(service: Service) -> None:
    async with service() as answer:
        await answer("/login")
        assert await answer("/device") is True
        await answer("/logout")
        assert await answer("/device") is False
