"""The service for Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, route
from litestar.params import FromPath

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.litestar import SessionConfig, change, load
from sqlsessions.testing import Send, asgi

from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    @route("/{name:str}", http_method=["GET", "POST"])
    async def endpoint(request: Request[Any, Any, Any], name: FromPath[str]) -> Any:
        session = await load(request)
        item = request.query_params.get("item", "")
        return await respond(name, item, session, lambda function: change(request, function))

    config = SessionConfig(storage, **options)
    yield asgi(Litestar([endpoint], middleware=[config.middleware], logging_config=None))
