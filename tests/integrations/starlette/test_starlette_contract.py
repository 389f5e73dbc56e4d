"""Starlette: the contract of integrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.starlette import (
    SessionMiddleware,
    end_other_sessions,
    end_session,
    list_sessions,
    require_fresh,
)
from sqlsessions.testing import Gate, Send, asgi

from ..contract import STEPS, OnEveryStorage, with_transports


async def untouched(_request: Request) -> Response:
    return JSONResponse(None)


async def respond(request: Request) -> Response:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query, session = request.query_params, request.session
    if "Hold" in request.headers:
        session.get("a")
        await request.app.state.gate.wait()
    match request.path_params["name"]:
        case "leave":
            session.update(query)
            return RedirectResponse("/show")
        case "refuse":
            session.update(query)
            raise HTTPException(404)
        case "sensitive":
            await require_fresh(request, float(query["seconds"]))
            return JSONResponse(None)
        case "sessions":
            return JSONResponse([info.key async for info in list_sessions(request)])
        case "end":
            return JSONResponse(await end_session(request, query["key"]))
        case "end_others":
            return JSONResponse(await end_other_sessions(request))
        case name:
            return JSONResponse(STEPS[name](session, query))


class TestStarlette(OnEveryStorage):
    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        names = {"cookie_name": "session_cookie", "secure": "https_only"}
        options = with_transports({names.get(name, name): value for name, value in settings.items()})
        routes = [Route("/untouched", untouched), Route("/{name}", respond, methods=["GET", "POST"])]
        app = Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, storage=storage, **options)])
        app.state.gate = gate
        yield asgi(app)
