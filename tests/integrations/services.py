"""A small service in each framework: responses that shared caches may keep, and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp_session
import flask
import quart
from aiohttp import ClientSession, DummyCookieJar, web
from aiohttp.test_utils import TestServer
from litestar import Litestar, Request, Response, get
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route
from yarl import URL

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations import flask as flask_sessions
from sqlsessions.integrations import quart as quart_sessions
from sqlsessions.integrations.aiohttp import AioHttpStorage, setup
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.storage import DEFAULT
from sqlsessions.testing import HttpRequest, HttpResponse, Send, asgi, wsgi

Service = Callable[..., AbstractAsyncContextManager[Send]]
"""Takes a storage and the age of the cookie.

``GET /cached?control=...&key=value`` assigns the other parameters, and responds with that Cache-Control;
``GET /stream?key=value`` looks at the session, and assigns them once the response has begun.
"""


def lasting(ttl: int | None) -> dict[str, Any]:
    """The settings for a cookie of an age, or one that ends with the browser."""
    return {"expire_at_browser_close": True} if ttl is None else {"ttl": ttl}


@asynccontextmanager
async def starlette(storage: ManagedSessionStorage, ttl: int | None = None) -> AsyncIterator[Send]:
    async def cached(request: StarletteRequest) -> StarletteResponse:
        query = dict(request.query_params)
        control = query.pop("control")
        request.session.update(query)
        return PlainTextResponse("cached", headers={"Cache-Control": control})

    async def stream(request: StarletteRequest) -> StarletteResponse:
        request.session.get("a")

        async def body() -> AsyncIterator[str]:
            yield "begun"
            request.session.update(request.query_params)

        return StreamingResponse(body())

    middleware = Middleware(SessionMiddleware, storage=storage, **lasting(ttl))
    yield asgi(
        Starlette(routes=[Route("/cached", cached), Route("/stream", stream)], middleware=[middleware])
    )


@asynccontextmanager
async def litestar(storage: ManagedSessionStorage, ttl: int | None = None) -> AsyncIterator[Send]:
    @get("/cached")
    async def cached(request: Request[Any, Any, Any]) -> Response[str]:
        query = dict(request.query_params)
        control = query.pop("control")
        request.session.update(query)
        return Response("cached", headers={"Cache-Control": control})

    @get("/stream")
    async def stream(request: Request[Any, Any, Any]) -> Stream:
        request.session.get("a")

        async def body() -> AsyncIterator[str]:
            yield "begun"
            request.session.update(request.query_params)

        return Stream(body())

    config = SessionConfig(storage, **lasting(ttl))
    yield asgi(Litestar([cached, stream], middleware=[config.middleware], logging_config=None))


@asynccontextmanager
async def aiohttp(storage: ManagedSessionStorage, ttl: int | None = None) -> AsyncIterator[Send]:
    async def cached(request: web.Request) -> web.Response:
        query = dict(request.query)
        control = query.pop("control")
        (await aiohttp_session.get_session(request)).update(query)
        return web.Response(text="cached", headers={"Cache-Control": control})

    async def stream(request: web.Request) -> web.StreamResponse:
        session = await aiohttp_session.get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        session.update(request.query)
        return response

    app = web.Application()
    setup(app, AioHttpStorage(storage, cookie_name="session", **lasting(ttl)))
    app.router.add_get("/cached", cached)
    app.router.add_get("/stream", stream)
    async with TestServer(app) as server, ClientSession(cookie_jar=DummyCookieJar()) as client:

        async def send(request: HttpRequest) -> HttpResponse:
            url = URL(f"{server.make_url(request.path)}?{request.query}", encoded=True)
            async with client.get(url, headers=request.headers) as response:
                return HttpResponse(response.status, list(response.headers.items()), await response.read())

        yield send


@asynccontextmanager
async def flask_(
    storage: ManagedSessionStorage, ttl: int | None = None, **config: Any
) -> AsyncIterator[Send]:
    app = flask.Flask(__name__)
    app.config |= config
    flask_sessions.SqlSessionInterface(storage, ttl=DEFAULT if ttl is None else ttl).init_app(app)

    @app.get("/cached")
    def cached() -> Any:
        query = flask.request.args.to_dict()
        control = query.pop("control")
        flask.session.permanent = ttl is not None
        flask.session.update(query)
        return "cached", {"Cache-Control": control}

    @app.get("/stream")
    def stream() -> Any:
        flask.session.get("a")

        def body() -> Any:
            yield "begun"
            flask.session.update(flask.request.args)
            flask_sessions.save()

        return flask.Response(flask.stream_with_context(body()))

    yield wsgi(app)


@asynccontextmanager
async def quart_(storage: ManagedSessionStorage, ttl: int | None = None) -> AsyncIterator[Send]:
    app = quart.Quart(__name__)
    quart_sessions.SqlSessionInterface(storage, ttl=DEFAULT if ttl is None else ttl).init_app(app)

    @app.get("/cached")
    async def cached() -> Any:
        query = quart.request.args.to_dict()
        control = query.pop("control")
        quart.session.permanent = ttl is not None
        quart.session.update(query)
        return "cached", {"Cache-Control": control}

    @app.get("/stream")
    async def stream() -> Any:
        quart.session.get("a")

        @quart.stream_with_context
        async def body() -> AsyncIterator[str]:
            yield "begun"
            quart.session.update(quart.request.args)
            await quart_sessions.save()

        return body()

    yield asgi(app)


SERVICES: list[Service] = [starlette, litestar, aiohttp, flask_, quart_]
