"""Flask: the contract of integrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flask import Flask, current_app, jsonify, redirect, request, session
from werkzeug.exceptions import NotFound

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.flask import (
    SqlSessionInterface,
    end_other_sessions,
    end_session,
    list_sessions,
    require_fresh,
)
from sqlsessions.testing import Gate, Send, wsgi

from ..contract import STEPS, InBackground, with_transports

NAMES = {"same_site": "samesite"}


def untouched() -> Any:
    return jsonify(None)


def respond(name: str) -> Any:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query = request.args.to_dict()
    if "Hold" in request.headers:
        session.get("a")
        current_app.config["GATE"].block()
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
            require_fresh(float(query["seconds"]))
        case "sessions":
            return jsonify([info.key for info in list_sessions()])
        case "end":
            return jsonify(end_session(query["key"]))
        case "end_others":
            return jsonify(end_other_sessions())
        case _:
            return jsonify(STEPS[name](session, query))
    return jsonify(None)


class TestFlask(InBackground):
    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        app = Flask(__name__)
        settings.pop("expire_at_browser_close", None)  # as with all sessions that are not permanent
        app.config |= {"GATE": gate, "AGED": "ttl" in settings}
        options = with_transports({NAMES.get(name, name): value for name, value in settings.items()})
        SqlSessionInterface(storage, **options).init_app(app)
        app.add_url_rule("/untouched", view_func=untouched)
        app.add_url_rule("/<name>", view_func=respond, methods=["GET", "POST"])
        yield wsgi(app)
