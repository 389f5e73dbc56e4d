"""The applications that Quart is tested with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Quart, jsonify, request, session
from quart.typing import TestClientProtocol as Client

from sqlsessions.integrations.quart import SqlSessionInterface

DAY = 24 * 60 * 60

Handler = Callable[[], Awaitable[Any]]


async def show() -> Any:
    return jsonify(dict(session))


async def put() -> Any:
    session.update(request.args)
    return "put"


async def logout() -> Any:
    session.clear()
    return "out"


async def permanent() -> Any:
    session.permanent = request.args["value"] == "1"
    return "kept"


def plain() -> Any:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(dict(session))


HANDLERS = [show, put, logout, permanent, plain]


def app_of(
    storage: Any, *more: Handler, lazy: bool = True, config: dict[str, Any] | None = None, **options: Any
) -> Quart:
    app = Quart(__name__)
    app.config.update(config or {})
    interface = SqlSessionInterface(storage, **options)
    if lazy:
        interface.init_app(app)
    else:
        app.session_interface = interface  # type: ignore[assignment]
    for handler in [*HANDLERS, *more]:
        app.add_url_rule(f"/{handler.__name__}", view_func=handler)
    return app


async def shown(client: Client) -> Any:
    response = await client.get("/show")
    assert response.status_code == 200
    return await response.get_json()


def id_of(client: Any) -> str | None:
    return next((cookie.value for cookie in client.cookie_jar if cookie.name == "session"), None)


def bring(client: Client, id: str) -> None:
    client.set_cookie("localhost", "session", id)


async def _teapot(_error: Exception) -> Any:
    return "down", 418
