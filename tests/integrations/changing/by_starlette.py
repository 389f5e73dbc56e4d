"""The service for Starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.starlette import SessionMiddleware, change, load
from sqlsessions.testing import Send, asgi

from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    async def endpoint(request: Request) -> Response:
        name, item = request.path_params["name"], request.query_params.get("item", "")
        session = await load(request)
        return JSONResponse(await respond(name, item, session, lambda function: change(request, function)))

    session = Middleware(SessionMiddleware, storage=storage, **options)
    yield asgi(Starlette(routes=[Route("/{name}", endpoint, methods=["GET", "POST"])], middleware=[session]))
