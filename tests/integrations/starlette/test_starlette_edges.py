"""Starlette: expiry, errors, and what else may happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from httpx import AsyncClient
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sqlsessions import (
    DelegatingStorage,
    InvalidArgument,
    InvalidArgumentType,
    InvalidSessionData,
    SessionInfo,
    SessionNotFound,
    SqlSessionStorage,
    StorageUnavailable,
    UnsupportedOperation,
)
from sqlsessions.integrations.starlette import (
    Session,
    SessionMiddleware,
    end_session,
    list_sessions,
    load,
    save,
)
from sqlsessions.testing import ManualClock, SpyStorage

from ..support import CountingSerializer
from .app import (
    DAY,
    app_of,
    client_of,
    cookie_of,
    talk,
    untouched,
)


def test_bad_types() -> None:
    with pytest.raises(InvalidArgumentType, match="storage"):
        SessionMiddleware(untouched, "sqlite://")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType, match="serializer"):
        SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), serializer=object())  # type: ignore[arg-type]


def test_a_secret_key_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), secret_key="secret word")  # type: ignore[arg-type]
    assert "secret_key" in caplog.text
    assert "secret word" not in caplog.text


async def test_data_that_json_has_not_is_an_error(storage: SpyStorage) -> None:
    async def bad(request: Request) -> Response:
        request.session["key"] = {1, 2}
        return PlainTextResponse("bad")

    async with client_of(app_of(storage, bad)) as client:
        with pytest.raises(InvalidSessionData, match=r"JSON has no set, at session\['key'\]"):
            await client.get("/bad")


@pytest.mark.parametrize("eager", [False, True])
async def test_unavailable_may_be_raised(storage: SpyStorage, eager: bool) -> None:
    async with client_of(app_of(storage, unavailable="raise", eager=eager)) as client:
        await client.get("/put?a=1")
        storage.down = True
        with pytest.raises(StorageUnavailable):
            await client.get("/show")


async def test_eager(storage: SpyStorage) -> None:
    async with client_of(app_of(storage, eager=True)) as client:
        await client.get("/put?a=1")
        storage.calls.clear()
        response = await client.get("/untouched")
        assert storage.calls == ["read"]
        assert "vary" not in response.headers
        storage.down = True
        assert (await client.get("/untouched")).status_code == 503


async def test_in_a_worker_thread(storage: SpyStorage) -> None:
    def plain(request: Request) -> Response:
        request.session["count"] = request.session.get("count", 0) + 1
        return PlainTextResponse("plain")

    async with client_of(app_of(storage, plain)) as client:  # type: ignore[arg-type]
        for _ in range(3):
            assert (await client.get("/plain")).status_code == 200
        assert (await client.get("/show")).json() == {"count": 3}


async def test_behind_a_middleware_that_runs_the_rest_in_a_task(storage: SpyStorage) -> None:
    async def pass_on(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    inside = (Middleware(BaseHTTPMiddleware, dispatch=pass_on),)
    async with client_of(app_of(storage, inside=inside)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/show")).json() == {"a": "1"}


async def test_context_variables_and_cancellation_pass_through_a_lazy_request(storage: SpyStorage) -> None:
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


async def test_changes_after_the_response_began(
    storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
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


async def test_nobody_has_no_sessions_to_list(storage: SpyStorage) -> None:
    async def mine(request: Request) -> Response:
        return JSONResponse([info.key async for info in list_sessions(request)])

    async with client_of(app_of(storage, mine)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/mine")).json() == []


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
        headers: dict[bytes, bytes] = dict(socket.extra_headers or [])
        assert b"set-cookie" in headers
        cookie = headers[b"set-cookie"].decode().partition(";")[0]
    assert client.get("/show", headers={"cookie": cookie}).json() == {"early": 1}


def test_a_websocket_without_storage(caplog: pytest.LogCaptureFixture) -> None:
    from sqlsessions import SessionStorageMemory

    storage = SpyStorage(SessionStorageMemory())
    app = app_of(storage)
    app.router.routes.append(WebSocketRoute("/talk", talk))
    client = TestClient(app)
    client.get("/put?a=1")
    storage.down = True
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/talk"):
        pass
    assert caught.value.code == 1013
    assert caplog.records[-1].levelno == logging.ERROR


async def test_data_is_in_no_repr() -> None:
    assert "secret" not in repr(Session({"secret": "word"}))


async def test_helpers_need_the_middleware() -> None:
    with pytest.raises(InvalidArgument, match="SessionMiddleware"):
        await load(Request({"type": "http", "headers": []}))


async def test_a_logout_does_not_read_the_session(client: AsyncClient, storage: SpyStorage) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    storage.calls.clear()
    response = await client.get("/logout")
    assert storage.calls == ["invalidate"]
    assert "Max-Age=0" in cookie_of(response)
    assert await storage.info(old) is None


async def test_a_logout_with_the_old_id_ends_a_session_that_was_just_rotated(
    client: AsyncClient, storage: SpyStorage
) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    await client.get("/login?user=ann")
    response = await client.get("/logout", headers={"cookie": f"session={old}"})
    assert "Max-Age=0" in cookie_of(response)
    assert [info async for info in storage.sessions()] == []


@pytest.mark.parametrize("read", [False, True])
async def test_data_after_a_logout_begins_a_new_session(
    storage: SpyStorage, clock: ManualClock, read: bool
) -> None:
    async def switch(request: Request) -> Response:
        if read:
            assert request.session["a"] == "1"
        request.session.invalidate()  # type: ignore[attr-defined]
        assert dict(request.session) == {}
        request.session["b"] = 2
        return PlainTextResponse("switched")

    async with client_of(app_of(storage, switch)) as client:
        await client.get("/login?user=ann")
        await client.get("/put?a=1")
        await client.get("/remember?days=90")
        old = client.cookies["session"]
        clock.advance(60)
        storage.calls.clear()
        response = await client.get("/switch")
        assert storage.calls == ["read"] * read + ["rotate", "invalidate", "write"]
        assert f"Max-Age={14 * DAY}" in cookie_of(response)  # not that of the old session
        assert len(response.headers.get_list("set-cookie")) == 1
        assert await storage.info(old) is None
        info = await storage.info(client.cookies["session"])
        assert info is not None
        assert info.created_at.timestamp() == clock()
        assert info.subject is None
        assert (await client.get("/show")).json() == {"b": 2}


async def test_a_session_that_another_request_ended_can_be_logged_out(storage: SpyStorage) -> None:
    async def late(request: Request) -> Response:
        request.session["late"] = 1
        await storage.invalidate(request.cookies["session"])
        with pytest.raises(SessionNotFound):
            await save(request)
        request.session.invalidate()  # type: ignore[attr-defined]
        return PlainTextResponse("late")

    async with client_of(app_of(storage, late)) as client:
        await client.get("/put?a=1")
        assert "Max-Age=0" in cookie_of(await client.get("/late"))
        assert [info async for info in storage.sessions()] == []


async def test_a_session_that_was_mentioned_is_read_before_the_response_begins(storage: SpyStorage) -> None:
    """The body is sent from another task, which cannot read it."""

    async def streamed(request: Request) -> Response:
        session = request.session

        async def body() -> AsyncIterator[str]:
            yield session["a"]

        return StreamingResponse(body())

    async with client_of(app_of(storage, streamed)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/streamed")).text == "1"
        storage.down = True
        assert (await client.get("/streamed")).status_code == 503


@pytest.mark.parametrize("keys", [1, 40])
async def test_a_write_encodes_and_decodes_no_more_for_many_keys(storage: SpyStorage, keys: int) -> None:
    serializer = CountingSerializer()
    async with client_of(app_of(storage, serializer=serializer)) as client:
        await client.get("/put", params={f"key {number}": "old" for number in range(keys)})
        assert (serializer.dumped, serializer.loaded) == (1, 1)
        serializer.dumped = serializer.loaded = 0
        await client.get("/put", params={f"key {number}": "new" for number in range(keys)})
        assert (serializer.dumped, serializer.loaded) == (1, 2)
        serializer.dumped = serializer.loaded = 0
        assert len((await client.get("/show")).json()) == keys
        assert (serializer.dumped, serializer.loaded) == (1, 1)


async def test_a_listed_session_is_ended_on_a_storage_that_finds_none_by_key(storage: SpyStorage) -> None:
    class Unkeyed(DelegatingStorage):
        async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
            raise UnsupportedOperation("this storage does not offer infos")

    async def end(request: Request) -> Response:
        return JSONResponse(await end_session(request, request.query_params["key"]))

    app = app_of(Unkeyed(storage), end)
    async with client_of(app) as alice, client_of(app) as bob:
        await alice.get("/login?user=alice")
        await bob.get("/login?user=bob")
        infos = {info.subject: info.key async for info in storage.delegate.sessions()}
        assert (await alice.get("/end", params={"key": infos["bob"]})).json() is False
        assert (await alice.get("/end", params={"key": "no key"})).json() is False
        assert (await alice.get("/end", params={"key": infos["alice"]})).json() is True
        assert [info.subject async for info in storage.delegate.sessions()] == ["bob"]
