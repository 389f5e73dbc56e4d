"""The small service that is put over each of the session libraries that are compared, but for its login and logout."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from httpx import AsyncBaseTransport, WSGITransport
from httpx import Request as HttpxRequest
from httpx import Response as HttpxResponse
from litestar import Request as LitestarRequest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from flask import Flask

PREFIX = f"bench{secrets.token_hex(4)}."


class Gate:
    """Where a slow request waits until others are done."""

    def __init__(self) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait, within a request."""
        self.entered.set()
        await asyncio.wait_for(self.open.wait(), 20)


def put(session: Any, key: str) -> None:
    """Set a key, as every service does it."""
    session[key] = 1


def routes(gate: Gate, login: Any, logout: Any) -> list[Route]:
    """The service, for what gives Starlette's ``request.session``."""

    async def change(request: Request) -> JSONResponse:
        put(request.session, request.query_params["key"])
        return JSONResponse(None)

    async def slow(request: Request) -> JSONResponse:
        request.session.get("first")
        await gate.wait()
        put(request.session, "late")
        return JSONResponse(None)

    async def nest(request: Request) -> JSONResponse:
        request.session.setdefault("nested", {"number": 0})["number"] += 1
        return JSONResponse(None)

    async def show(request: Request) -> JSONResponse:
        return JSONResponse({key: value for key, value in request.session.items() if key[:2] != "__"})

    return [Route(f"/{each.__name__}", each) for each in (change, slow, nest, show, login, logout)]


def litestar_handlers(gate: Gate) -> list[Any]:
    """The service, but for the login and the logout, for what gives Litestar's ``request.session``."""
    from litestar import get

    @get("/change")
    async def change(request: LitestarRequest[Any, Any, Any]) -> None:
        put(request.session, request.query_params["key"])

    @get("/slow")
    async def slow(request: LitestarRequest[Any, Any, Any]) -> None:
        await gate.wait()
        put(request.session, "late")

    @get("/nest")
    async def nest(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session.setdefault("nested", {"number": 0})["number"] += 1

    @get("/show")
    async def show(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return dict(request.session)

    return [change, slow, nest, show]


class InThreads(AsyncBaseTransport):
    """Calls a WSGI application in threads, so that requests run at the same time."""

    def __init__(self, app: Any) -> None:
        self._wsgi = WSGITransport(app)

    async def handle_async_request(self, request: HttpxRequest) -> HttpxResponse:
        """Answer a request."""
        answer = await asyncio.to_thread(self._wsgi.handle_request, request)
        return HttpxResponse(
            answer.status_code, headers=answer.headers.multi_items(), content=answer.read(), request=request
        )


def flask_app(gate: Gate) -> Flask:
    """The service, but for the login and the logout, for what gives Flask's ``session``."""
    from flask import Flask, request, session

    app = Flask("compared")
    loop = asyncio.get_running_loop()

    @app.get("/change")
    def change() -> str:
        put(session, request.args["key"])
        return "null"

    @app.get("/slow")
    def slow() -> str:
        session.get("first")
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30)
        put(session, "late")
        return "null"

    @app.get("/nest")
    def nest() -> str:
        session.setdefault("nested", {"number": 0})["number"] += 1
        return "null"

    @app.get("/show")
    def show() -> dict[str, Any]:
        return dict(session)

    return app
