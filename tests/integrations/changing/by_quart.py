"""The service for Quart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quart import Quart, jsonify, request, session

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.quart import SqlSessionInterface, change
from sqlsessions.testing import Send, asgi

from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    app = Quart(__name__)
    SqlSessionInterface(storage, **options).init_app(app)

    async def endpoint(name: str) -> Any:
        item = request.args.get("item", "")
        return jsonify(await respond(name, item, session, change))

    app.add_url_rule("/<name>", view_func=endpoint, methods=["GET", "POST"])
    yield asgi(app)
