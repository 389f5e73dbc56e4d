"""Starlette's middleware: what a request may rely on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage, StorageUnavailable
from sqlsessions.integrations.starlette import (
    Session,
    SessionMiddleware,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    save,
)
from sqlsessions.testing import ManualClock

from .support import Spy

Endpoint = Callable[[Request], Awaitable[Response]]
DAY = 24 * 60 * 60


async def show(request: Request) -> Response:
    return JSONResponse(dict(request.session))


async def put(request: Request) -> Response:
    request.session.update(request.query_params)
    return PlainTextResponse("put")


async def untouched(_request: Request) -> Response:
    return PlainTextResponse("untouched")


async def nested(request: Request) -> Response:
    request.session["list"].append(1)
    return PlainTextResponse("nested")


async def login(request: Request) -> Response:
    request.session.subject = request.query_params["user"]  # type: ignore[attr-defined]
    return PlainTextResponse("in")


async def logout(request: Request) -> Response:
    request.session.invalidate()  # type: ignore[attr-defined]
    return PlainTextResponse("out")


async def regenerate(request: Request) -> Response:
    request.session.regenerate()  # type: ignore[attr-defined]
    return PlainTextResponse("regenerated")


async def clear(request: Request) -> Response:
    request.session.clear()
    request.session.update(request.query_params)
    return PlainTextResponse("cleared")


async def start_list(request: Request) -> Response:
    request.session["list"] = []
    return PlainTextResponse("started")


async def remember(request: Request) -> Response:
    request.session.set_expiry(int(request.query_params["days"]) * DAY)  # type: ignore[attr-defined]
    return PlainTextResponse("remembered")


async def forget(request: Request) -> Response:
    request.session.set_expiry(3600, browser=True)  # type: ignore[attr-defined]
    return PlainTextResponse("forgotten")


ENDPOINTS = [
    show, put, untouched, nested, login, logout, regenerate, clear, start_list, remember, forget,
]  # fmt: skip


def app_of(storage: Any, *more: Endpoint, inside: tuple[Any, ...] = (), **options: Any) -> Starlette:
    routes = [Route(f"/{endpoint.__name__}", endpoint) for endpoint in [*ENDPOINTS, *more]]
    session = Middleware(SessionMiddleware, storage=storage, **options)
    return Starlette(routes=routes, middleware=[session, *inside])


def client_of(app: Starlette, scheme: str = "https") -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url=f"{scheme}://service.test")


def cookie_of(response: Any) -> list[str]:
    return str(response.headers.get("set-cookie", "")).split("; ")


@pytest.fixture
async def client(storage: Spy) -> AsyncIterator[AsyncClient]:
    async with client_of(app_of(storage)) as client:
        yield client


def writes(storage: Spy) -> list[str]:
    return [call for call in storage.calls if call not in ("read", "info")]


async def test_a_session_is_kept(client: AsyncClient) -> None:
    assert (await client.get("/show")).json() == {}
    await client.get("/put?a=1")
    await client.get("/put?b=2")
    assert (await client.get("/show")).json() == {"a": "1", "b": "2"}


async def test_no_call_without_a_look(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/untouched")
    assert storage.calls == []
    assert "set-cookie" not in response.headers
    assert "vary" not in response.headers
    assert "cache-control" not in response.headers


async def test_no_call_without_a_cookie(client: AsyncClient, storage: Spy) -> None:
    response = await client.get("/show")
    assert storage.calls == []
    assert "set-cookie" not in response.headers


async def test_reading_writes_nothing(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/show")
    assert storage.calls == ["read"]
    assert "set-cookie" not in response.headers
    assert response.headers["vary"] == "Cookie"
    assert response.headers["cache-control"] == "private"


async def test_the_same_data_is_not_written_again(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/put?a=1")
    assert storage.calls == ["read"]
    assert "set-cookie" not in response.headers


async def test_nested_changes_are_noticed(client: AsyncClient) -> None:
    await client.get("/start_list")
    await client.get("/nested")
    await client.get("/nested")
    assert (await client.get("/show")).json() == {"list": [1, 1]}


async def test_a_cookie_of_somebody_elses_making_is_not_adopted(client: AsyncClient, storage: Spy) -> None:
    for value in ("a" * 43, "short", "x" * 5000, "%00", '"quoted"'):
        response = await client.get("/show", headers={"cookie": f"session={value}"})
        assert "Max-Age=0" in cookie_of(response)
        assert writes(storage) == []
        response = await client.get("/put?a=1", headers={"cookie": f"session={value}"})
        given = cookie_of(response)[0].removeprefix("session=")
        assert len(given) == 43
        assert given != value
        assert await storage.info(given) is not None
        storage.calls.clear()
        client.cookies.clear()


async def test_a_cookie_of_a_session_that_ended_is_cleared(
    client: AsyncClient, storage: Spy, clock: ManualClock
) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    clock.advance(14 * DAY)
    response = await client.get("/show")
    assert response.json() == {}
    assert "Max-Age=0" in cookie_of(response)
    response = await client.get("/put?b=1", headers={"cookie": f"session={old}"})
    assert old not in response.headers["set-cookie"]


async def test_parallel_requests_lose_nothing(client: AsyncClient) -> None:
    await client.get("/put?start=1")
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(client.get(f"/put?key{n}=1") for n in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len((await client.get("/show")).json()) == 51


class Gate:
    """An endpoint that waits in its midst."""

    __name__ = "slow"

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        request.session["slow"] = 1
        self.arrived.set()
        await self.go.wait()
        return PlainTextResponse("slow")

    async def during(self, client: AsyncClient, *paths: str) -> Any:
        """Ask for other pages while this one is under way."""
        async with asyncio.timeout(30):
            slow = asyncio.create_task(client.get("/slow"))
            await self.arrived.wait()
            for path in paths:
                await client.get(path)
            self.go.set()
            return await slow


def slowly(storage: Spy, **options: Any) -> tuple[Gate, AsyncClient]:
    gate = Gate()

    async def slow(request: Request) -> Response:
        return await gate(request)

    return gate, client_of(app_of(storage, slow, **options))


async def test_a_logout_is_final_for_slower_requests(storage: Spy) -> None:
    gate, client = slowly(storage)
    async with client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        response = await gate.during(client, "/logout")
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
        assert await storage.info(old) is None
        assert [info async for info in storage.sessions()] == []
        assert (await client.get("/show", headers={"cookie": f"session={old}"})).json() == {}


async def test_a_logout_reaches_a_session_that_was_rotated_meanwhile(storage: Spy) -> None:
    async def slow_logout(request: Request) -> Response:
        request.session.get("a")
        gate.arrived.set()
        await gate.go.wait()
        request.session.clear()
        return PlainTextResponse("out")

    gate = Gate()
    async with client_of(app_of(storage, slow_logout)) as client, asyncio.timeout(30):
        await client.get("/put?a=1")
        slow = asyncio.create_task(client.get("/slow_logout"))
        await gate.arrived.wait()
        await client.get("/regenerate")
        gate.go.set()
        await slow
        assert [info async for info in storage.sessions()] == []


async def test_a_slower_request_does_not_undo_a_login(storage: Spy) -> None:
    gate, client = slowly(storage)
    async with client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        response = await gate.during(client, "/login?user=ann")
        assert "set-cookie" not in response.headers  # which would take away the one that the login gave
        assert client.cookies["session"] != old
        # Nor does a request that only now comes with the old cookie.
        response = await client.get("/show", headers={"cookie": f"session={old}"})
        assert response.json() == {}
        assert "set-cookie" not in response.headers
        assert (await client.get("/show")).json() == {"a": "1"}


@pytest.mark.parametrize("path", ["/login?user=ann", "/regenerate", "/clear?b=2"])
async def test_rotation(client: AsyncClient, storage: Spy, path: str) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    await client.get(path)
    new = client.cookies["session"]
    assert new != old
    assert await storage.info(old) is None
    assert (await client.get("/show")).json() == ({"b": "2"} if "clear" in path else {"a": "1"})
    info = await storage.info(new)
    assert info is not None
    assert info.subject == ("ann" if "login" in path else None)


async def test_a_rotation_loses_no_change_made_meanwhile(storage: Spy) -> None:
    async def slow(request: Request) -> Response:
        request.session["mine"] = 1
        request.session.subject = "ann"  # type: ignore[attr-defined]
        gate.arrived.set()
        await gate.go.wait()
        return PlainTextResponse("slow")

    gate = Gate()
    async with client_of(app_of(storage, slow)) as client:
        await client.get("/put?a=1")
        await gate.during(client, "/put?b=2")
        assert (await client.get("/show")).json() == {"a": "1", "b": "2", "mine": 1}


async def test_login_without_rotation(storage: Spy) -> None:
    async with client_of(app_of(storage, rotate_on_login=False)) as client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        await client.get("/login?user=ann")
        assert client.cookies["session"] == old
        info = await storage.info(old)
        assert info is not None
        assert info.subject == "ann"


async def test_logout(client: AsyncClient, storage: Spy) -> None:
    await client.get("/login?user=ann")
    old = client.cookies["session"]
    response = await client.get("/logout")
    assert "Max-Age=0" in cookie_of(response)
    assert "session" not in client.cookies
    assert await storage.info(old) is None


async def test_idle_timeout_is_extended_by_use(client: AsyncClient, storage: Spy, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    clock.advance(14 * DAY * 0.04)
    assert "set-cookie" not in (await client.get("/show")).headers
    assert writes(storage) == []
    clock.advance(14 * DAY * 0.02)
    response = await client.get("/show")
    assert writes(storage) == ["touch"]
    assert f"Max-Age={14 * DAY}" in cookie_of(response)
    storage.calls.clear()
    clock.advance(14 * DAY * 0.9)
    await client.get("/untouched")
    assert storage.calls == []
    clock.advance(14 * DAY * 0.09)
    assert (await client.get("/show")).json() == {"a": "1"}


async def test_absolute_timeout(storage: Spy, clock: ManualClock) -> None:
    async with client_of(app_of(storage, max_age=DAY, absolute_timeout=2 * DAY)) as client:
        await client.get("/put?a=1")
        for _ in range(3):
            clock.advance(0.6 * DAY)
            assert (await client.get("/show")).json() == {"a": "1"}
        storage.calls.clear()
        assert (await client.get("/show")).json() == {"a": "1"}
        assert storage.calls == ["read"]  # there is nothing left to extend
        clock.advance(0.2 * DAY)
        assert (await client.get("/show")).json() == {}


async def test_remember_me(client: AsyncClient, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    assert f"Max-Age={90 * DAY}" in cookie_of(await client.get("/remember?days=90"))
    clock.advance(80 * DAY)
    assert f"Max-Age={90 * DAY}" in cookie_of(await client.get("/put?b=2"))
    clock.advance(80 * DAY)
    assert (await client.get("/show")).json() == {"a": "1", "b": "2"}


async def test_a_session_until_the_browser_is_closed(client: AsyncClient, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    assert "Max-Age" not in (await client.get("/forget")).headers.get("set-cookie", "")
    clock.advance(1800)
    response = await client.get("/show")
    assert response.json() == {"a": "1"}
    assert "set-cookie" not in response.headers
    clock.advance(3600)
    assert (await client.get("/show")).json() == {}


async def test_without_max_age_the_storage_decides(storage: Spy, clock: ManualClock) -> None:
    async with client_of(app_of(storage, max_age=None)) as client:
        assert "Max-Age" not in (await client.get("/put?a=1")).headers["set-cookie"]
        clock.advance(13 * DAY)
        assert (await client.get("/show")).json() == {"a": "1"}


@pytest.mark.parametrize(
    ("options", "scheme", "flags", "missing"),
    [
        (
            {},
            "http",
            ["httponly", "samesite=lax", "path=/", f"Max-Age={14 * DAY}"],
            ["secure", "partitioned"],
        ),
        ({}, "https", ["httponly", "samesite=lax", "secure"], ["partitioned"]),
        ({"https_only": True}, "http", ["secure"], []),
        ({"https_only": False}, "https", [], ["secure"]),
        ({"same_site": "none"}, "http", ["samesite=none", "secure"], []),
        ({"same_site": "strict"}, "http", ["samesite=strict"], ["secure"]),
        ({"domain": "service.test", "path": "/put"}, "http", ["domain=service.test", "path=/put"], []),
        ({"partitioned": True}, "https", ["partitioned", "secure"], []),
        ({"session_cookie": "__Host-id"}, "http", ["secure", "path=/"], []),
    ],
    ids=str,
)
async def test_cookie(
    storage: Spy, options: dict[str, Any], scheme: str, flags: list[str], missing: list[str]
) -> None:
    async with client_of(app_of(storage, **options), scheme) as client:
        parts = cookie_of(await client.get("/put?a=1"))
    assert parts[0].startswith(f"{options.get('session_cookie', 'session')}=")
    assert set(flags) <= set(parts)
    assert not set(missing) & set(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session_cookie": "a b"}, "name"),
        ({"session_cookie": ""}, "name"),
        ({"session_cookie": "__Host-id", "domain": "service.test"}, "__Host-"),
        ({"session_cookie": "__Host-id", "path": "/app"}, "__Host-"),
        ({"session_cookie": "__Host-id", "https_only": False}, "Secure"),
        ({"session_cookie": "__Secure-id", "https_only": False}, "Secure"),
        ({"same_site": "none", "https_only": False}, "Secure"),
        ({"same_site": "Lax"}, "same_site"),
        ({"partitioned": True, "https_only": False}, "Secure"),
        ({"path": "app"}, "path"),
        ({"path": "/a; secure"}, "path"),
        ({"domain": "a\r\nb"}, "domain"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": -1}, "max_age"),
        ({"absolute_timeout": 0}, "absolute_timeout"),
        ({"unavailable": "500"}, "unavailable"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), **options)  # type: ignore[arg-type]


def test_bad_types() -> None:
    with pytest.raises(InvalidArgumentType, match="storage"):
        SessionMiddleware(untouched, "sqlite://")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType, match="serializer"):
        SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), serializer=object())  # type: ignore[arg-type]


def test_a_secret_key_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), secret_key="secret word")  # type: ignore[arg-type]
    assert "secret_key" in caplog.text
    assert "secret word" not in caplog.text


async def test_data_that_json_has_not_is_an_error(storage: Spy) -> None:
    async def bad(request: Request) -> Response:
        request.session["secret"] = {1, 2}
        return PlainTextResponse("bad")

    async with client_of(app_of(storage, bad)) as client:
        with pytest.raises(InvalidArgumentType, match="JSON") as caught:
            await client.get("/bad")
    assert "secret" not in str(caught.value)


async def test_what_cannot_be_decoded_is_an_empty_session(
    client: AsyncClient, storage: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"\xff\xfe", b"[1]", b"", b"{"):
        await client.get("/put?a=1")
        await storage.write_bytes(client.cookies["session"], data)
        storage.calls.clear()
        assert (await client.get("/show")).json() == {}
        assert writes(storage) == []
        assert "cannot be decoded" in caplog.text
        await client.get("/put?b=2")
        assert (await client.get("/show")).json() == {"b": "2"}


@pytest.mark.parametrize("path", ["/show", "/put?a=2"])
async def test_unavailable(client: AsyncClient, storage: Spy, path: str, caplog: Any) -> None:
    await client.get("/put?a=1")
    storage.down = True
    response = await client.get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "set-cookie" not in response.headers
    assert client.cookies["session"] not in caplog.text
    assert (await client.get("/untouched")).status_code == 200
    storage.down = False
    assert (await client.get("/show")).json() == {"a": "1"}


async def test_unavailable_for_a_new_session(client: AsyncClient, storage: Spy) -> None:
    storage.down = True
    response = await client.get("/put?a=1")
    assert response.status_code == 503
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("eager", [False, True])
async def test_unavailable_may_be_raised(storage: Spy, eager: bool) -> None:
    async with client_of(app_of(storage, unavailable="raise", eager=eager)) as client:
        await client.get("/put?a=1")
        storage.down = True
        with pytest.raises(StorageUnavailable):
            await client.get("/show")


async def test_eager(storage: Spy) -> None:
    async with client_of(app_of(storage, eager=True)) as client:
        await client.get("/put?a=1")
        storage.calls.clear()
        response = await client.get("/untouched")
        assert storage.calls == ["read"]
        assert "vary" not in response.headers
        storage.down = True
        assert (await client.get("/untouched")).status_code == 503


async def test_in_a_worker_thread(storage: Spy) -> None:
    def plain(request: Request) -> Response:
        request.session["count"] = request.session.get("count", 0) + 1
        return PlainTextResponse("plain")

    async with client_of(app_of(storage, plain)) as client:  # type: ignore[arg-type]
        for _ in range(3):
            assert (await client.get("/plain")).status_code == 200
        assert (await client.get("/show")).json() == {"count": 3}


async def test_in_a_task_of_the_applications_own(storage: Spy) -> None:
    async def own_task(request: Request) -> Response:
        if "load" in request.query_params:
            await load(request)

        async def look() -> Any:
            return request.session["a"]

        return JSONResponse(await asyncio.create_task(look()))

    async with client_of(app_of(storage, own_task)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/own_task?load=1")).json() == "1"
        with pytest.raises(RuntimeError, match="await load"):
            await client.get("/own_task")


async def test_behind_a_middleware_that_runs_the_rest_in_a_task(storage: Spy) -> None:
    async def pass_on(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    inside = (Middleware(BaseHTTPMiddleware, dispatch=pass_on),)
    async with client_of(app_of(storage, inside=inside)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/show")).json() == {"a": "1"}


async def test_context_variables_and_cancellation_pass_through_a_lazy_request(storage: Spy) -> None:
    async def timed(request: Request) -> Response:
        request.session["timed"] = 1
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(30)
        except TimeoutError:
            return PlainTextResponse(asyncio.current_task().get_name())  # type: ignore[union-attr]
        return PlainTextResponse("no")

    async with client_of(app_of(storage, timed)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/timed")).text == asyncio.current_task().get_name()  # type: ignore[union-attr]
        assert (await client.get("/show")).json() == {"a": "1", "timed": 1}


async def test_changes_after_the_response_began(storage: Spy, caplog: pytest.LogCaptureFixture) -> None:
    async def streamed(request: Request) -> Response:
        session = request.session

        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            session["late"] = 1
            yield b"b"

        return StreamingResponse(body())

    async with client_of(app_of(storage, streamed)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/streamed")).text == "ab"
        assert (await client.get("/show")).json() == {"a": "1", "late": 1}
        assert "too late" not in caplog.text
        client.cookies.clear()
        await client.get("/streamed")
        assert "too late" in caplog.text


async def test_sessions_of_a_user(storage: Spy) -> None:
    async def mine(request: Request) -> Response:
        return JSONResponse([info.key async for info in list_sessions(request)])

    async def end(request: Request) -> Response:
        return JSONResponse(await end_session(request, request.query_params["key"]))

    async def end_others(request: Request) -> Response:
        return JSONResponse(await end_other_sessions(request))

    app = app_of(storage, mine, end, end_others)
    async with client_of(app) as one, client_of(app) as two, client_of(app) as three, client_of(app) as other:
        for client, user in ((one, "ann"), (two, "ann"), (three, "ann"), (other, "bob")):
            await client.get(f"/login?user={user}")
        keys = (await one.get("/mine")).json()
        assert len(keys) == 3
        theirs = (await other.get("/mine")).json()
        assert (await one.get("/end", params={"key": theirs[0]})).json() is False
        info = await storage.info(two.cookies["session"])
        assert info is not None
        assert (await one.get("/end", params={"key": info.key})).json() is True
        assert "Max-Age=0" in cookie_of(await two.get("/show"))
        assert (await one.get("/end_others")).json() == 1
        assert len((await one.get("/mine")).json()) == 1
        assert len((await other.get("/mine")).json()) == 1
        with pytest.raises(InvalidArgument, match="subject"):
            await two.get("/mine")


async def talk(websocket: WebSocket) -> None:
    before = websocket.session.get("a")
    if "early" in websocket.query_params:
        websocket.session["early"] = 1
    await websocket.accept()
    await websocket.send_json(before)
    try:
        while True:
            websocket.session["said"] = await websocket.receive_text()
            if "save" in websocket.query_params:
                await save(websocket)
            await websocket.send_text("ok")
    except WebSocketDisconnect:
        pass


def test_websockets_across_event_loops(url: str) -> None:
    """The client runs every request in an event loop of its own."""
    app = app_of(SqlSessionStorage(url))
    app.router.routes.append(WebSocketRoute("/talk", talk))
    client = TestClient(app)
    client.get("/put?a=1")
    with client.websocket_connect("/talk?save=1") as socket:
        assert socket.receive_json() == "1"
        socket.send_text("one")
        assert socket.receive_text() == "ok"
        assert client.get("/show").json() == {"a": "1", "said": "one"}
    with client.websocket_connect("/talk") as socket:
        socket.receive_json()
        socket.send_text("two")
        assert socket.receive_text() == "ok"
    assert client.get("/show").json() == {"a": "1", "said": "two"}


def test_a_websocket_begins_a_session(url: str) -> None:
    app = app_of(SqlSessionStorage(url))
    app.router.routes.append(WebSocketRoute("/talk", talk))
    client = TestClient(app)
    with client.websocket_connect("/talk?early=1") as socket:
        headers = dict(socket.extra_headers or [])
        assert b"set-cookie" in headers
        cookie = headers[b"set-cookie"].decode().partition(";")[0]
    assert client.get("/show", headers={"cookie": cookie}).json() == {"early": 1}


def test_a_websocket_without_storage(caplog: pytest.LogCaptureFixture) -> None:
    from sqlsessions import SessionStorageMemory

    storage = Spy(SessionStorageMemory())
    app = app_of(storage)
    app.router.routes.append(WebSocketRoute("/talk", talk))
    client = TestClient(app)
    client.get("/put?a=1")
    storage.down = True
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/talk"):
        pass
    assert caught.value.code == 1013
    assert caplog.records[-1].levelno == logging.ERROR


def test_a_client_without_a_context_uses_a_loop_for_each_request(url: str) -> None:
    client = TestClient(app_of(SqlSessionStorage(url)))
    for n in range(5):
        client.get(f"/put?key{n}=1")
    assert len(client.get("/show").json()) == 5


async def test_data_is_in_no_repr() -> None:
    assert "secret" not in repr(Session({"secret": "word"}))


async def test_helpers_need_the_middleware() -> None:
    with pytest.raises(InvalidArgument, match="SessionMiddleware"):
        await load(Request({"type": "http", "headers": []}))
