"""The applications that Litestar is tested with."""

from __future__ import annotations

import json
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar import Response as LitestarResponse
from litestar.exceptions import WebSocketDisconnect

from sqlsessions.integrations.litestar import (
    Session,
    SessionConfig,
    list_sessions,
    load,
    save,
)
from sqlsessions.testing import SpyStorage

Req = Request[Any, Any, Any]

LIMIT = 20  # seconds, for what must not hang


@get("/untouched")
async def untouched() -> str:
    return "untouched"


@get("/read")
async def read(request: Req) -> dict[str, Any]:
    assert isinstance(request.session, Session)
    return dict(request.session)


@post("/write")
async def write(request: Req) -> None:
    request.session.update(await request.json())


@post("/login")
async def login(request: Req) -> None:
    session, user = await load(request), request.query_params["user"]
    session.subject = user
    session["user"] = user


@post("/logout")
async def logout(request: Req) -> None:
    request.clear_session()


@post("/set")
async def set_session(request: Req) -> None:
    request.set_session(await request.json())


@get("/subject")
async def subject(request: Req) -> dict[str, Any]:
    return {"subject": (await load(request)).subject}


@get("/sessions")
async def sessions(request: Req) -> list[str]:
    return [info.key async for info in list_sessions(request)]


HANDLERS = [untouched, read, write, login, logout, set_session, subject, sessions]


def app_over(storage: SpyStorage, *handlers: Any, exception_handlers: Any = None, **options: Any) -> Litestar:
    return Litestar(
        [*HANDLERS, *handlers],
        middleware=[SessionConfig(storage, **options).middleware],
        exception_handlers=exception_handlers,
        logging_config=None,  # which would take caplog's handler away
    )


def concurrent(app: Litestar, cookies: Any = None) -> AsyncClient:
    """A client whose requests run at once, in one event loop, unlike those of `AsyncTestClient`."""
    transport = ASGITransport(app)  # type: ignore[arg-type]  # whose types of ASGI are its own
    return AsyncClient(transport=transport, base_url="http://service.local", cookies=cookies)


def cookie_of(response: Response) -> str | None:
    """The value of the session cookie that a response sets."""
    return response.cookies.get("session")


def handled(_request: Req, _error: Exception) -> LitestarResponse[str]:
    return LitestarResponse("handled", status_code=599)


class Plain:
    """A serializer that raises what the standard library does."""

    dumps = staticmethod(lambda value: json.dumps(value).encode())
    loads = staticmethod(json.loads)


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            message = json.loads(await socket.receive_text())
            if message == "save":
                await save(socket)
            elif message is not None:
                socket.session.update(message)
            await socket.send_json(dict(socket.session))
    except WebSocketDisconnect:
        pass


@websocket("/greet")
async def greet(socket: WebSocket[Any, Any, Any]) -> None:
    socket.session["greeted"] = True
    await socket.accept()
    await socket.close()


@websocket("/refused")
async def refused(socket: WebSocket[Any, Any, Any]) -> None:
    socket.session["refused"] = True
    await socket.close(code=4003)
