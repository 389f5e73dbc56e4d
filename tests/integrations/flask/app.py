"""The applications that Flask is tested with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, jsonify, request, session
from flask.testing import FlaskClient

from sqlsessions.integrations.flask import SqlSessionInterface

DAY = 24 * 60 * 60

Handler = Callable[[], Any]


def show() -> Any:
    return jsonify(dict(session))


def put() -> Any:
    session.update(request.args)
    return "put"


def logout() -> Any:
    session.clear()
    return "out"


def permanent() -> Any:
    session.permanent = request.args["value"] == "1"
    return "kept"


HANDLERS = [show, put, logout, permanent]


def app_of(storage: Any, *more: Handler, config: dict[str, Any] | None = None, **options: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config or {})
    SqlSessionInterface(storage, **options).init_app(app)
    for handler in [*HANDLERS, *more]:
        app.add_url_rule(f"/{handler.__name__}", view_func=handler)
    return app


def shown(client: FlaskClient) -> Any:
    response = client.get("/show")
    assert response.status_code == 200
    return response.get_json()


def id_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    return cookie.value if cookie else ""
