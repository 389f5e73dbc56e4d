"""The service for FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.fastapi import CurrentSession, SessionMiddleware, change
from sqlsessions.testing import Send, asgi

from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, storage=storage, **options)

    @app.api_route("/{name}", methods=["GET", "POST"])
    async def endpoint(name: str, request: Request, session: CurrentSession, item: str = "") -> Response:
        result = await respond(name, item, session, lambda function: change(request, function))
        return JSONResponse(result)

    yield asgi(app)
