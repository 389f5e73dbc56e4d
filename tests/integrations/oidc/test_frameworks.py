"""The endpoint in each framework, by its own client for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from sqlsessions import InvalidArgument, SessionStorageMemory, new_session_id
from sqlsessions.integrations.oidc import BackChannelLogout, labels_of
from sqlsessions.testing import ManualClock

from .provider import CLIENT, OpenIDProvider

Post = Callable[[dict[str, str]], Awaitable[tuple[int, str, str]]]
"""Sends a form; gives the status, Cache-Control and body of the answer."""

PATH = "/backchannel-logout"


def answer_of(response: Any) -> tuple[int, str, str]:
    return response.status_code, response.headers["Cache-Control"], response.text


def of_starlette(logout: BackChannelLogout) -> Post:
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    client = TestClient(Starlette(routes=[Route(PATH, logout, methods=["POST"])]))
    assert client.get(PATH).status_code == 405

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        return answer_of(client.post(PATH, data=form))

    return post


def of_fastapi(logout: BackChannelLogout) -> Post:
    from fastapi import FastAPI
    from starlette.routing import Route
    from starlette.testclient import TestClient

    app = FastAPI()
    app.routes.append(Route(PATH, logout, methods=["POST"]))
    client = TestClient(app)

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        return answer_of(client.post(PATH, data=form))

    return post


def of_litestar(logout: BackChannelLogout) -> Post:
    from litestar import Litestar, asgi
    from litestar.testing import TestClient

    client = TestClient(Litestar(route_handlers=[asgi(PATH, copy_scope=True)(logout.__call__)]))

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        return answer_of(client.post(PATH, data=form))

    return post


def of_aiohttp(logout: BackChannelLogout) -> Post:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    async def end(request: web.Request) -> web.Response:
        form = await request.post()
        answer = await logout.respond(form.get("logout_token"))
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)

    app = web.Application()
    app.router.add_post(PATH, end)

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        async with TestClient(TestServer(app)) as client:
            response = await client.post(PATH, data=form)
            return response.status, response.headers["Cache-Control"], await response.text()

    return post


def of_flask(logout: BackChannelLogout) -> Post:
    from flask import Flask, request

    app = Flask(__name__)
    app.post(PATH)(lambda: logout.respond_blocking(request.form.get("logout_token")))

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        return answer_of(await asyncio.to_thread(lambda: app.test_client().post(PATH, data=form)))

    return post


def of_quart(logout: BackChannelLogout) -> Post:
    from quart import Quart, request

    app = Quart(__name__)

    @app.post(PATH)
    async def end() -> Any:
        return await logout.respond((await request.form).get("logout_token"))

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        response = await app.test_client().post(PATH, form=form)
        return response.status_code, response.headers["Cache-Control"], await response.get_data(as_text=True)

    return post


def of_django(logout: BackChannelLogout) -> Post:
    from django.http import HttpRequest, HttpResponse
    from django.test import AsyncRequestFactory

    from ..django_project import browsers  # noqa: F401 (which configures Django)

    async def end(request: HttpRequest) -> HttpResponse:
        answer = await logout.respond(request.POST.get("logout_token"))
        return HttpResponse(answer.body, status=answer.status, headers=answer.headers)

    async def post(form: dict[str, str]) -> tuple[int, str, str]:
        response = await end(AsyncRequestFactory().post(PATH, form))
        return response.status_code, response.headers["Cache-Control"], response.content.decode()

    return post


APPLICATIONS = [of_starlette, of_fastapi, of_litestar, of_aiohttp, of_flask, of_quart, of_django]


@pytest.mark.parametrize("framework", APPLICATIONS, ids=lambda made: made.__name__.removeprefix("of_"))
async def test_a_form_with_a_logout_token(
    framework: Callable[[BackChannelLogout], Post], clock: ManualClock
) -> None:
    provider, memory = OpenIDProvider(clock=clock), SessionStorageMemory(clock=clock)
    logout = BackChannelLogout(memory, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
    claims = provider.claims()
    await memory.write_bytes("a", b"data", labels=labels_of(claims))
    post = framework(logout)
    token = provider.signed(claims)
    assert await post({"logout_token": token}) == (200, "no-store", "")
    assert await memory.info("a") is None
    for form in ({"logout_token": token}, {"token": token}, {"logout_token": ""}, {}):
        status, cache, body = await post(form)
        assert (status, cache) == (400, "no-store")
        assert '"error": "invalid_request"' in body


@pytest.fixture
def logout(clock: ManualClock) -> BackChannelLogout:
    provider = OpenIDProvider(clock=clock)
    storage = SessionStorageMemory(clock=clock)
    return BackChannelLogout(storage, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)


FORM = ("content-type", "application/x-www-form-urlencoded")


async def asked(
    logout: BackChannelLogout,
    *bodies: bytes | None,
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (FORM,),
) -> tuple[int, bytes]:
    """The answer to a request whose body comes in parts; None is a client that goes away."""
    parts = [
        {"type": "http.disconnect"}
        if body is None
        else {"type": "http.request", "body": body, "more_body": True}
        for body in bodies
    ]
    parts.append({"type": "http.request"})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await logout({"type": "http", "method": method, "headers": encoded}, receive, send)
    assert (b"cache-control", b"no-store") in sent[0]["headers"]
    return sent[0]["status"], sent[1]["body"]


async def test_requests_that_are_no_logout(clock: ManualClock, logout: BackChannelLogout) -> None:
    token = OpenIDProvider(clock=clock).logout_token().encode()
    form = b"logout_token=" + token
    for bodies in (
        (),
        (b"",),
        (form + b"&" + form,),
        (form, None),
        (b"x" * 200_000,) * 2,
        (b"\xff=1",),
        (b"a=1&" * 101,),
    ):
        status, body = await asked(logout, *bodies)
        assert (status, b"one logout_token" in body) == (400, True), bodies
    for headers in ((), [("content-type", "application/json")], [FORM, ("content-type", "text/plain")]):
        assert (await asked(logout, form, headers=headers))[0] == 400
    assert b"POST" in (await asked(logout, method="GET"))[1]


async def test_a_body_in_parts(clock: ManualClock) -> None:
    provider = OpenIDProvider(clock=clock)
    logout = BackChannelLogout(
        SessionStorageMemory(clock=clock), issuer=provider.url, client_id=CLIENT, jwks=provider.jwks
    )
    form = b"a=&logout_token=" + provider.logout_token().encode()
    typed = ("content-type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")
    assert await asked(logout, form[:9], form[9:40], form[40:], headers=[typed]) == (200, b"")


async def test_a_websocket_is_no_logout(logout: BackChannelLogout) -> None:
    with pytest.raises(InvalidArgument, match="websocket"):
        await logout({"type": "websocket"}, None, None)


@pytest.mark.timeout(25)  # before the connection would be looked after anyway
async def test_open_connections_end_with_their_session(clock: ManualClock) -> None:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route, WebSocketRoute
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocket

    from sqlsessions.integrations.starlette import SessionMiddleware, alive

    provider, memory = OpenIDProvider(clock=clock), SessionStorageMemory(clock=clock)
    logout = BackChannelLogout(memory, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
    claims = provider.claims()
    id = new_session_id()
    await memory.write_bytes(id, b'{"a":1}', subject="ann", labels=labels_of(claims))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        async with alive(websocket, every=30):
            await websocket.send_text("open")
            await asyncio.Event().wait()

    app = Starlette(
        routes=[WebSocketRoute("/socket", socket), Route(PATH, logout, methods=["POST"])],
        middleware=[Middleware(SessionMiddleware, storage=memory)],
    )

    def use() -> Any:
        with (
            TestClient(app, cookies={"session": id}) as client,
            client.websocket_connect("/socket") as opened,
        ):
            assert opened.receive_text() == "open"
            client.post(PATH, data={"logout_token": provider.signed(claims)})
            return opened.receive()

    assert (await asyncio.to_thread(use))["type"] == "websocket.close"
