"""The service for Flask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flask import Flask, jsonify, request, session

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.flask import SqlSessionInterface, change
from sqlsessions.testing import Send, wsgi

from .routes import answer


@asynccontextmanager
async def service(storage: ManagedSessionStorage, **options: Any) -> AsyncIterator[Send]:
    app = Flask(__name__)
    SqlSessionInterface(storage, **options).init_app(app)

    def endpoint(name: str) -> Any:
        item = request.args.get("item", "")
        return jsonify(answer(name, item, session, change))

    app.add_url_rule("/<name>", view_func=endpoint, methods=["GET", "POST"])
    yield wsgi(app)
