"""Requests to an ASGI application in this process, without a server and its parsing of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .web_apps import app_of

App = Any


async def requested(app: App, path: str, cookie: str) -> Mapping[str, str]:
    """The headers of the response to a request, which has a task of its own as under a server.

    Raises:
        RuntimeError: If the status is not 200.
    """
    return await asyncio.get_running_loop().create_task(_answered(app, path, cookie))


async def logged_in(side: str, url: str, many: int) -> tuple[App, list[str]]:
    """An application with one kind of session or another, and the cookies of new sessions."""
    app = app_of(side, url)
    headers = await asyncio.gather(*(requested(app, "/login", "") for _ in range(many)))
    return app, [found["set-cookie"].partition(";")[0] for found in headers]


async def _answered(app: App, path: str, cookie: str) -> Mapping[str, str]:
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(_scope(path, cookie), receive, send)
    if (status := messages[0]["status"]) != 200:
        raise RuntimeError(f"the application answered {path} with {status}")
    return {name.decode(): value.decode() for name, value in messages[0]["headers"]}


def _scope(path: str, cookie: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", cookie.encode())],
        "state": {},
    }
