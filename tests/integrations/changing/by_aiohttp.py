"""The service for aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, DummyCookieJar, web
from aiohttp.test_utils import TestServer
from aiohttp_session import get_session

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.aiohttp import AioHttpStorage, change, setup
from sqlsessions.testing import HttpRequest, HttpResponse, Send

from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    async def endpoint(request: web.Request) -> web.Response:
        name, item = request.match_info["name"], request.query.get("item", "")
        session = await get_session(request)
        result = await respond(name, item, session, lambda function: change(request, function))
        return web.json_response(result)

    app = web.Application()
    setup(app, AioHttpStorage(storage, cookie_name="session", **options))
    app.router.add_route("*", "/{name}", endpoint)
    async with TestServer(app) as server, ClientSession(cookie_jar=DummyCookieJar()) as client:

        async def send(request: HttpRequest) -> HttpResponse:
            url = server.make_url(request.path).with_query(request.query)
            async with client.request(request.method, url, headers=request.headers) as response:
                return HttpResponse(response.status, list(response.headers.items()), await response.read())

        yield send
