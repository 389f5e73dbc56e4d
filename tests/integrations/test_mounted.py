"""Applications within applications, each with sessions of its own."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar, Request, asgi, get, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.testing import AsyncTestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware as CookieMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Mount, Route

from sqlsessions import SessionStorageMemory
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.starlette import SessionMiddleware, load
from sqlsessions.testing import Browser, ManualClock
from sqlsessions.testing import asgi as served

Req = Request[Any, Any, Any]

OWN = {
    "ours": lambda: SessionConfig(SessionStorageMemory(), key="inner").middleware,
    "server-side": lambda: ServerSideSessionConfig(key="inner").middleware,
}


@get("/show")
async def show(request: Req) -> dict[str, Any]:
    return dict(request.session)


@post("/login")
async def login(request: Req) -> None:
    request.session["user"] = "alice"


@get("/look")
async def look(request: Req) -> dict[str, Any]:
    return dict(request.session)


@post("/change")
async def change(request: Req) -> None:
    request.session["inner"] = 1


@post("/leave")
async def leave(request: Req) -> None:
    request.clear_session()


@post("/swap")
async def swap(request: Req) -> None:
    request.set_session({"inner": 1})


async def mixed(request: StarletteRequest) -> StarletteResponse:
    request.session["inner"] = 1
    return JSONResponse(dict(request.session))


async def ended(request: StarletteRequest) -> StarletteResponse:
    request.session.clear()
    return JSONResponse(None)


def outer(mounted: Any, copy_scope: bool) -> Litestar:
    inner = asgi("/inner", is_mount=True, copy_scope=copy_scope)(_called(mounted))
    config = SessionConfig(SessionStorageMemory(clock=ManualClock()))
    return Litestar([show, login, inner], middleware=[config.middleware], logging_config=None)


def _called(app: Any) -> Any:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


both = pytest.mark.parametrize("copy_scope", [True, False], ids=["copied", "shared"])


@both
@pytest.mark.parametrize("own", OWN)
async def test_a_mounted_litestar_with_sessions_of_its_own_leaves_the_outer_one_alone(
    own: str, copy_scope: bool
) -> None:
    mounted = Litestar([look, change, leave, swap], middleware=[OWN[own]()], logging_config=None)
    async with AsyncTestClient(outer(mounted, copy_scope)) as client:
        await client.post("/login")
        id = client.cookies["session"]
        for method, path in [
            ("GET", "/look"), ("POST", "/change"), ("GET", "/look"), ("POST", "/swap"), ("POST", "/leave"),
        ]:  # fmt: skip
            assert (await client.request(method, f"/inner{path}")).is_success
            assert (await client.get("/show")).json() == {"user": "alice"}
        assert client.cookies["session"] == id


@both
@pytest.mark.parametrize("middleware", [
    Middleware(CookieMiddleware, secret_key="inner", session_cookie="inner"),
    Middleware(SessionMiddleware, storage=SessionStorageMemory(), session_cookie="inner"),
], ids=["starlette's", "ours"])  # fmt: skip
async def test_a_mounted_starlette_with_sessions_of_its_own_leaves_the_outer_one_alone(
    middleware: Middleware, copy_scope: bool
) -> None:
    mounted = Starlette(
        routes=[Route("/inner/mixed", mixed), Route("/inner/ended", ended), Route("/mixed", mixed)],
        middleware=[middleware],
    )
    async with AsyncTestClient(outer(mounted, copy_scope)) as client:
        await client.post("/login")
        for path in ("/inner/mixed", "/inner/ended", "/inner/mixed", "/inner/missing"):
            await client.get(path)
            assert (await client.get("/show")).json() == {"user": "alice"}


async def test_a_mounted_litestar_without_sessions_has_the_outer_one() -> None:
    mounted = Litestar([look, change, leave, swap], logging_config=None)
    async with AsyncTestClient(outer(mounted, copy_scope=False)) as client:
        await client.post("/login")
        await client.post("/inner/change")
        assert (await client.get("/show")).json() == {"user": "alice", "inner": 1}
        await client.post("/inner/swap")
        assert (await client.get("/show")).json() == {"inner": 1}
        await client.post("/inner/leave")
        assert (await client.get("/show")).json() == {}


async def test_a_router_with_sessions_of_litestar_s_leaves_ours_alone() -> None:
    @get("/other", middleware=[OWN["server-side"]()])
    async def other(request: Req) -> dict[str, Any]:
        request.set_session({"inner": 1})
        return {}

    config = SessionConfig(SessionStorageMemory(clock=ManualClock()))
    app = Litestar([show, login, other], middleware=[config.middleware], logging_config=None)
    async with AsyncTestClient(app) as client:
        await client.post("/login")
        await client.get("/other")
        assert (await client.get("/show")).json() == {"user": "alice"}


@pytest.mark.parametrize("own", [SessionMiddleware, CookieMiddleware], ids=["ours", "starlette's"])
async def test_what_lies_outside_of_a_mounted_starlette_has_the_outer_session(own: Any) -> None:
    async def after(request: StarletteRequest, call_next: Any) -> StarletteResponse:
        response: StarletteResponse = await call_next(request)
        session = await load(request)
        response.headers["X-User"] = session.get("user", "nobody")
        return response

    async def enter(request: StarletteRequest) -> StarletteResponse:
        request.session["user"] = "alice"
        return JSONResponse(None)

    options = {"secret_key": "x"} if own is CookieMiddleware else {"storage": SessionStorageMemory()}
    mounted = Starlette(
        routes=[Route("/mixed", mixed), Route("/ended", ended)],
        middleware=[Middleware(own, session_cookie="inner", **options)],
    )
    app = Starlette(
        routes=[Route("/enter", enter), Mount("/inner", mounted)],
        middleware=[
            Middleware(SessionMiddleware, storage=SessionStorageMemory()),
            Middleware(BaseHTTPMiddleware, dispatch=after),
        ],
    )
    browser = Browser(served(app), "session")
    await browser.get("/enter")
    for path in ("/inner/mixed", "/inner/ended", "/enter"):
        assert (await browser.get(path)).all("X-User") == ["alice"]
