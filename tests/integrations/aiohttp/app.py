"""The applications that aiohttp-session is tested with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp_session
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session import get_session

from sqlsessions.integrations.aiohttp import AioHttpStorage, Session

Client: TypeAlias = "TestClient[web.Request, web.Application]"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NAME = "AIOHTTP_SESSION"

DAY = 24 * 60 * 60


async def session_of(request: web.Request) -> Session:
    session = await get_session(request)
    assert isinstance(session, Session)
    return session


async def show(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def put(request: web.Request) -> web.Response:
    (await get_session(request)).update(request.query)
    return web.Response(text="put")


async def fresh(request: web.Request) -> web.Response:
    session = await aiohttp_session.new_session(request)
    session.update(request.query)
    if "age" in request.query:
        session.max_age = None
    return web.Response(text="fresh")


async def login(request: web.Request) -> web.Response:
    (await session_of(request)).subject = request.query["user"]
    return web.Response(text="in")


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).invalidate()
    return web.Response(text="out")


async def remember(request: web.Request) -> web.Response:
    age = request.query["age"]
    (await get_session(request)).max_age = None if age == "none" else int(age)
    return web.Response(text="remembered")


HANDLERS = [show, put, fresh, login, logout, remember]


def app_of(
    storage: Any, *more: Handler, install: Any = aiohttp_session.setup, **options: Any
) -> web.Application:
    app = web.Application()
    install(app, AioHttpStorage(storage, **options))
    for handler in [*HANDLERS, *more]:
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[Client]:
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def shown(client: Client) -> Any:
    async with client.get("/show") as response:
        assert response.status == 200
        return await response.json()


def id_of(client: Client) -> str | None:
    found = client.session.cookie_jar.filter_cookies(client.make_url("/")).get(NAME)
    return found.value if found else None


def bring(client: Client, id: str) -> None:
    client.session.cookie_jar.clear()
    client.session.cookie_jar.update_cookies({NAME: id}, client.make_url("/"))
