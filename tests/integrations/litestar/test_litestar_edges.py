"""Litestar: expiry, errors, and what else may happen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest
from litestar import Litestar, get, post
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import AsyncTestClient, TestClient

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionStorageMemory, StorageUnavailable
from sqlsessions.integrations.litestar import SessionConfig, load
from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    LIMIT,
    Plain,
    Req,
    app_over,
    chat,
    concurrent,
    cookie_of,
    greet,
    handled,
    read,
    refused,
    write,
)


async def test_an_application_may_answer_without_its_session(storage: SpyStorage) -> None:
    @get("/lenient")
    async def lenient(request: Req) -> str:
        try:
            await load(request)
        except StorageUnavailable:
            return "without"
        return "with"

    async with AsyncTestClient(app_over(storage, lenient)) as client:
        await client.post("/write", json={"a": 1})
        storage.down = True
        response = await client.get("/lenient")
        assert (response.status_code, response.text) == (200, "without")


async def test_unavailable_for_the_application_to_handle(storage: SpyStorage) -> None:
    handlers = {StorageUnavailable: handled}
    app = app_over(storage, unavailable="raise", exception_handlers=handlers)
    async with AsyncTestClient(app) as client:
        storage.down = True
        assert (await client.post("/write", json={"a": 1})).status_code == 599
        assert storage.calls == ["write"]
        storage.down = False
        await client.post("/write", json={"a": 1})
        storage.down = True
        assert (await client.get("/read")).status_code == 599
        assert (await client.post("/write", json={"a": 2})).status_code == 599
        assert (await client.post("/logout")).status_code == 599
        storage.down = False
        assert (await client.get("/read")).json() == {"a": 1}


@pytest.mark.parametrize(("serializer", "error"), [(None, InvalidArgumentType), (Plain(), TypeError)])
async def test_data_that_cannot_be_kept(storage: SpyStorage, serializer: Any, error: type[Exception]) -> None:
    @post("/bad")
    async def bad(request: Req) -> None:
        request.session["bad"] = object()

    app = app_over(storage, bad, serializer=serializer, exception_handlers={error: handled})
    async with AsyncTestClient(app) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.post("/bad")).status_code == 599
        assert (await client.get("/read")).json() == {"a": 1}


async def test_a_rotated_id_is_told_though_the_write_failed(storage: SpyStorage, monkeypatch: Any) -> None:
    """Else the browser would be left with an id that is no more."""
    async with AsyncTestClient(app_over(storage)) as client:
        before = cookie_of(await client.post("/write", json={"a": 1}))

        async def fail(*_arguments: Any, **_options: Any) -> Any:
            raise StorageUnavailable("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(storage, "write_bytes", fail)
            response = await client.post("/login", params={"user": "alice"})
        assert response.status_code == 503
        assert cookie_of(response) not in (None, before)
        assert (await client.get("/read")).json() == {"a": 1}


async def test_a_response_cache_keeps_no_cookie(storage: SpyStorage) -> None:
    @get("/cached", cache=60)
    async def cached(request: Req) -> str:
        request.session["a"] = 1
        return "cached"

    app = app_over(storage, cached)
    async with concurrent(app) as first, concurrent(app) as second:
        assert cookie_of(await first.get("/cached"))
        response = await second.get("/cached")
        assert response.text == "cached"
        assert "set-cookie" not in response.headers


async def test_a_slow_set_session_does_not_undo_a_logout(storage: SpyStorage) -> None:
    loaded, ended = asyncio.Event(), asyncio.Event()

    @post("/slow")
    async def slow(request: Req) -> None:
        await load(request)
        loaded.set()
        await ended.wait()
        request.set_session({"other": 1})

    app = app_over(storage, slow)
    async with asyncio.timeout(LIMIT), concurrent(app) as client:
        await client.post("/login", params={"user": "alice"})
        left_over = dict(client.cookies)
        request = asyncio.create_task(client.post("/slow"))
        await loaded.wait()
        await client.post("/logout")
        ended.set()
        assert cookie_of(await request) is None
    async with concurrent(app, left_over) as client:
        assert (await client.get("/read")).json() == {}


def test_websockets_read_and_write(storage: SpyStorage) -> None:
    app = app_over(storage, chat)
    with TestClient(app) as client:
        client.post("/write", json={"a": 1})
        with client.websocket_connect("/chat") as socket:
            storage.calls.clear()
            socket.send_text("null")
            assert socket.receive_json(timeout=LIMIT) == {"a": 1}
            socket.send_text('{"b": 2}')
            assert socket.receive_json(timeout=LIMIT) == {"a": 1, "b": 2}
            assert storage.calls == ["read"]
            socket.send_text('"save"')
            socket.receive_json(timeout=LIMIT)
            assert client.get("/read").json() == {"a": 1, "b": 2}
            client.post("/write", json={"http": True})
            socket.send_text('{"c": 3}')
            socket.receive_json(timeout=LIMIT)
    with TestClient(app, cookies=client.cookies) as client:
        assert client.get("/read").json() == {"a": 1, "b": 2, "c": 3, "http": True}


async def test_the_last_write_of_a_websocket_outlasts_its_connection(storage: SpyStorage) -> None:
    """A server may cancel what serves a connection that is closed."""
    app = app_over(storage, chat)
    async with concurrent(app) as client:
        await client.post("/write", json={"a": 1})
        cookie = f"session={client.cookies['session']}".encode()
        serving = anyio.CancelScope()
        told = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": '{"b": 2}'},
            {"type": "websocket.disconnect", "code": 1001},
        ]

        async def receive() -> Any:
            if len(told) == 1:
                serving.cancel()
            return told.pop(0)

        async def send(_message: Any) -> None:
            pass

        scope: Any = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "scheme": "ws",
            "path": "/chat",
            "raw_path": b"/chat",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"cookie", cookie)],
            "subprotocols": [],
        }
        async with asyncio.timeout(LIMIT):
            with serving:
                await app(scope, receive, send)
        assert serving.cancel_called
        assert (await client.get("/read")).json() == {"a": 1, "b": 2}


def test_a_websocket_s_new_session_goes_with_its_handshake(storage: SpyStorage) -> None:
    with TestClient(app_over(storage, greet)) as client:
        with client.websocket_connect("/greet") as socket:
            headers = dict(socket.extra_headers or [])
        client.cookies.set("session", headers[b"set-cookie"].decode().partition("=")[2].partition(";")[0])
        assert client.get("/read").json() == {"greeted": True}


def test_a_websocket_that_is_refused_is_saved(storage: SpyStorage) -> None:
    with TestClient(app_over(storage, refused)) as client:
        client.post("/write", json={"a": 1})
        with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/refused"):
            pass
        assert error.value.code == 4003
        assert client.get("/read").json() == {"a": 1, "refused": True}


def test_a_websocket_while_the_storage_is_unavailable(storage: SpyStorage) -> None:
    with TestClient(app_over(storage, chat)) as client:
        client.post("/write", json={"a": 1})
        with client.websocket_connect("/chat") as socket:
            storage.down = True
            socket.send_text("null")
            with pytest.raises(WebSocketDisconnect):
                socket.receive_json(timeout=LIMIT)
    with TestClient(app_over(storage, greet)) as client:
        with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/greet"):
            pass
        assert error.value.code == 1013


def test_the_test_client_s_session_data(storage: SpyStorage) -> None:
    config = SessionConfig(storage)
    app = Litestar([read, write], middleware=[config.middleware])
    with TestClient(app, session_config=config) as client:
        client.set_session_data({"a": 1})
        assert client.get("/read").json() == {"a": 1}
        client.post("/write", json={"b": 2})
        assert client.get_session_data() == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"unavailable": "500"},
        {"ttl": 0},
        {"key": "a b"},
        {"key": "__Host-session", "domain": "service.local"},
        {"samesite": "none", "secure": False},
        {"httponly": False},
        {"session_id_bytes": 16},
        {"store": "sessions"},
    ],
)
def test_refused_settings(storage: SpyStorage, options: Any) -> None:
    with pytest.raises(InvalidArgument):
        SessionConfig(storage, **options)


@pytest.mark.parametrize(("name", "value"), [("ttl", 0), ("key", "a b"), ("httponly", False), ("store", "a")])
def test_what_is_refused_later_changes_nothing(storage: SpyStorage, name: str, value: Any) -> None:
    config = SessionConfig(storage)
    before = getattr(config, name), config.manager
    with pytest.raises(InvalidArgument):
        setattr(config, name, value)
    assert (getattr(config, name), config.manager) == before


def test_litestar_s_own_settings(storage: SpyStorage) -> None:
    SessionConfig(
        storage, httponly=True, session_id_bytes=32, store=None, renew_on_access=True, samesite="lax"
    )
    with pytest.raises(InvalidArgument, match=r"SessionConfig\(storage\)"):
        SessionConfig(store="sessions")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType, match="storage"):
        SessionConfig()


async def test_a_setting_may_be_assigned_to(storage: SpyStorage) -> None:
    config = SessionConfig(storage)
    app = Litestar([read, write], middleware=[config.middleware])
    async with AsyncTestClient(app) as client:
        config.ttl = 5
        config.key = "mine"
        config.samesite = "strict"
        cookie = (await client.post("/write", json={"a": 1})).headers["set-cookie"]
        assert cookie.startswith("mine=")
        assert "Max-Age=5;" in cookie
        assert "samesite=strict" in cookie


async def test_renewal_on_access_may_be_turned_off(storage: SpyStorage, clock: ManualClock) -> None:
    for renew, left in ((True, {"a": 1}), (False, {})):
        async with AsyncTestClient(app_over(storage, ttl=100, renew_on_access=renew)) as client:
            await client.post("/write", json={"a": 1})
            clock.advance(60)
            assert (await client.get("/read")).json() == {"a": 1}
            clock.advance(60)
            assert (await client.get("/read")).json() == left


async def test_without_renewal_a_use_is_noted(clock: ManualClock) -> None:
    storage = SpyStorage(SessionStorageMemory(clock=clock, touch_every=10))
    async with AsyncTestClient(app_over(storage, ttl=100, renew_on_access=False)) as client:
        await client.post("/write", json={"a": 1})
        for _ in range(4):
            clock.advance(24)
            response = await client.get("/read")
            assert response.json() == {"a": 1}
            assert "set-cookie" not in response.headers
            [info] = [info async for info in storage.sessions()]
            assert info.used_at == clock.now
        clock.advance(4)
        assert (await client.get("/read")).json() == {}


def test_refused_types(storage: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType):
        SessionConfig("sqlite:///sessions.db")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType):
        SessionConfig(storage, serializer=json.dumps)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/logout", "/invalidate"])
async def test_a_logout_does_not_read_the_session(storage: SpyStorage, path: str) -> None:
    @post("/invalidate")
    async def invalidate(request: Req) -> None:
        session: Any = request.session
        session.invalidate()

    async with AsyncTestClient(app_over(storage, invalidate)) as client:
        await client.post("/write", json={"a": 1})
        storage.calls.clear()
        response = await client.post(path)
        assert storage.calls == ["invalidate"]
        assert "Max-Age=0" in response.headers["set-cookie"]
        assert (await client.get("/read")).json() == {}
