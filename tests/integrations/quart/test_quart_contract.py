"""Quart: the contract of integrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from quart import Quart, current_app, jsonify, redirect, request, session
from werkzeug.exceptions import NotFound

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.quart import (
    SqlSessionInterface,
    end_other_sessions,
    end_session,
    list_sessions,
    require_fresh,
)
from sqlsessions.testing import Gate, Send, asgi

from ..contract import STEPS, OnEveryStorage, with_transports

NAMES = {"same_site": "samesite"}


async def untouched() -> Any:
    return jsonify(None)


async def respond(name: str) -> Any:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query = request.args.to_dict()
    if "Hold" in request.headers:
        session.get("a")
        await current_app.config["GATE"].wait()
    if current_app.config["AGED"] and name == "put":
        session.permanent = True
    match name:
        case "logout":
            session.clear()
        case "leave":
            session.update(query)
            return redirect("/show")
        case "refuse":
            session.update(query)
            raise NotFound
        case "sensitive":
            await require_fresh(float(query["seconds"]))
        case "sessions":
            return jsonify([info.key async for info in list_sessions()])
        case "end":
            return jsonify(await end_session(query["key"]))
        case "end_others":
            return jsonify(await end_other_sessions())
        case _:
            return jsonify(STEPS[name](session, query))
    return jsonify(None)


class TestQuart(OnEveryStorage):
    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        app = Quart(__name__)
        settings.pop("expire_at_browser_close", None)  # as with all sessions that are not permanent
        app.config |= {"GATE": gate, "AGED": "ttl" in settings}
        options = with_transports({NAMES.get(name, name): value for name, value in settings.items()})
        self.install(app, SqlSessionInterface(storage, **options))
        app.add_url_rule("/untouched", view_func=untouched)
        app.add_url_rule("/<name>", view_func=respond, methods=["GET", "POST"])
        yield asgi(app)

    def install(self, app: Quart, interface: SqlSessionInterface) -> None:
        interface.init_app(app)


@pytest.mark.variant
class TestQuartWithoutInit(TestQuart):
    """With the interface assigned, not initialised, which must read before the handler runs."""

    lacks = {
        "a_request_that_does_not_look_costs_nothing": "without init_app, every request reads its session"
    }

    def install(self, app: Quart, interface: SqlSessionInterface) -> None:
        app.session_interface = interface  # type: ignore[assignment]
