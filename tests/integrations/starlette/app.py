"""The applications that Starlette is tested with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket, WebSocketDisconnect

from sqlsessions.integrations.starlette import SessionMiddleware, save

Endpoint = Callable[[Request], Awaitable[Response]]

DAY = 24 * 60 * 60


async def show(request: Request) -> Response:
    return JSONResponse(dict(request.session))


async def put(request: Request) -> Response:
    request.session.update(request.query_params)
    return PlainTextResponse("put")


async def untouched(_request: Request) -> Response:
    return PlainTextResponse("untouched")


async def clear(request: Request) -> Response:
    request.session.clear()
    request.session.update(request.query_params)
    return PlainTextResponse("cleared")


async def login(request: Request) -> Response:
    request.session.subject = request.query_params["user"]  # type: ignore[attr-defined]
    return PlainTextResponse("in")


async def logout(request: Request) -> Response:
    request.session.invalidate()  # type: ignore[attr-defined]
    return PlainTextResponse("out")


async def forget(request: Request) -> Response:
    request.session.set_expiry(3600, browser=True)  # type: ignore[attr-defined]
    return PlainTextResponse("forgotten")


ENDPOINTS = [
    show, put, untouched, clear, login, logout, forget,
]  # fmt: skip


def app_of(storage: Any, *more: Endpoint, inside: tuple[Any, ...] = (), **options: Any) -> Starlette:
    routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in [*ENDPOINTS, *more]]
    session = Middleware(SessionMiddleware, storage=storage, **options)
    return Starlette(routes=routes, middleware=[session, *inside])


def client_of(app: Starlette, scheme: str = "https") -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url=f"{scheme}://service.test")


def cookie_of(response: Any) -> list[str]:
    return str(response.headers.get("set-cookie", "")).split("; ")


async def talk(websocket: WebSocket) -> None:
    before = websocket.session.get("a")
    if "early" in websocket.query_params:
        websocket.session["early"] = 1
    await websocket.accept()
    await websocket.send_json(before)
    try:
        while True:
            websocket.session["said"] = await websocket.receive_text()
            if "save" in websocket.query_params:
                await save(websocket)
            await websocket.send_text("ok")
    except WebSocketDisconnect:
        pass
