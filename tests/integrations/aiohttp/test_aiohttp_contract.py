"""aiohttp-session: the contract of integrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp_session
import pytest
from aiohttp import ClientSession, DummyCookieJar, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from aiohttp_session import get_session

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.aiohttp import (
    AioHttpStorage,
    end_other_sessions,
    end_session,
    list_sessions,
    require_fresh,
)
from sqlsessions.testing import Gate, HttpRequest, HttpResponse, Send

from ..contract import STEPS, OnEveryStorage, with_transports

GATE = web.AppKey("gate", Gate)
NAMES = {"same_site": "samesite"}


@web.middleware
async def behind_a_proxy(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request.clone(scheme=request.headers["X-Forwarded-Proto"]))


async def untouched(_request: web.Request) -> web.Response:
    return web.json_response(None)


async def respond(request: web.Request) -> web.Response:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query = request.query
    name = request.match_info["name"]
    if "Hold" in request.headers:
        await get_session(request)
        await request.app[GATE].wait()
    session: Any = await (aiohttp_session.new_session if name == "replace" else get_session)(request)
    match name:
        case "replace" | "put":
            session.update(query)
        case "remember":
            session.max_age = int(query["seconds"])
        case "leave":
            session.update(query)
            raise web.HTTPFound("/show")
        case "refuse":
            session.update(query)
            raise web.HTTPNotFound
        case "sensitive":
            await require_fresh(request, float(query["seconds"]))
        case "sessions":
            return web.json_response([info.key async for info in list_sessions(request)])
        case "end":
            return web.json_response(await end_session(request, query["key"]))
        case "end_others":
            return web.json_response(await end_other_sessions(request))
        case _:
            return web.json_response(STEPS[name](session, query))
    return web.json_response(None)


# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
class TestAioHttp(OnEveryStorage):
    cookie_name = "AIOHTTP_SESSION"

    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        options = {NAMES.get(name, name): value for name, value in settings.items()}
        options = with_transports(options, cookie_name=self.cookie_name)
        app = web.Application(middlewares=[behind_a_proxy])
        app[GATE] = gate
        aiohttp_session.setup(app, AioHttpStorage(storage, **options))
        app.router.add_get("/untouched", untouched)
        app.router.add_route("*", "/{name}", respond)
        async with TestServer(app) as server, ClientSession(cookie_jar=DummyCookieJar()) as session:

            async def send(request: HttpRequest) -> HttpResponse:
                url = server.make_url(request.path).with_query(request.query)
                headers = request.headers | {"X-Forwarded-Proto": request.scheme}
                async with session.request(
                    request.method, url, headers=headers, allow_redirects=False
                ) as response:
                    return HttpResponse(
                        response.status, list(response.headers.items()), await response.read()
                    )

            yield send
