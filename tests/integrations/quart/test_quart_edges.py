"""Quart: expiry, errors, and what else may happen."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from quart import Quart, redirect, session, websocket
from quart.testing.connections import WebsocketDisconnectError
from quart.typing import TestClientProtocol as Client

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage, StorageUnavailable
from sqlsessions.integrations.quart import SqlSessionInterface, load, save

from ..support import Spy
from .app import (
    _teapot,
    app_of,
    bring,
    id_of,
    shown,
)


async def test_parallel_requests_lose_nothing(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    await client.get("/put?start=1")
    await asyncio.gather(*(client.get(f"/put?key{number}=1") for number in range(50)))
    assert sum(key.startswith("key") for key in await shown(client)) == 50


async def test_logout_is_final(storage: Spy) -> None:
    looked, out = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        session["late"] = True
        looked.set()
        await out.wait()
        return "slow"

    client = app_of(storage, slow).test_client()
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    under_way = asyncio.create_task(client.get("/slow"))
    await asyncio.wait_for(looked.wait(), 10)
    await client.get("/logout")
    out.set()
    response = await asyncio.wait_for(under_way, 10)
    assert "Set-Cookie" not in response.headers
    assert await storage.delegate.info(old) is None
    bring(client, old)
    assert await shown(client) == {}


@pytest.mark.parametrize("path", ["show", "put?b=1", "plain"])
async def test_an_unavailable_storage(storage: Spy, lazy: bool, path: str) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    await client.get("/put?a=1")
    storage.down = True
    response = await client.get(f"/{path}")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in response.headers
    assert (await client.get("/untouched")).status_code == 200
    storage.down = False
    assert await shown(client) == {"a": "1"}


async def test_a_write_that_fails(storage: Spy) -> None:
    async def lose() -> Any:
        session["b"] = 2
        storage.down = True
        return redirect("/show")

    client = app_of(storage, lose).test_client()
    await client.get("/put?a=1")
    response = await client.get("/lose")
    assert response.status_code == 503
    assert "Location" not in response.headers
    assert b"unavailable" in await response.get_data()


async def test_an_unavailable_storage_raises(storage: Spy, lazy: bool) -> None:
    app = app_of(storage, lazy=lazy, unavailable="raise")
    app.register_error_handler(StorageUnavailable, _teapot)
    client = app.test_client()
    await client.get("/put?a=1")
    storage.down = True
    assert (await client.get("/show")).status_code == 418


async def test_undecodable_data_is_an_empty_session(
    client: Client, storage: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/put?a=1")
    id = id_of(client)
    assert id
    await storage.delegate.write_bytes(id, b"\xff not text")
    with caplog.at_level(logging.WARNING, "sqlsessions"):
        assert await shown(client) == {}
    assert "cannot be decoded" in caplog.text


async def test_a_task_of_the_handlers_own(storage: Spy) -> None:
    async def split() -> Any:
        async def look() -> None:
            assert session["a"] == "1"

        with pytest.raises(RuntimeError, match="await load"):
            await asyncio.create_task(look())
        await load()
        await asyncio.create_task(look())
        return "looked"

    client = app_of(storage, split).test_client()
    await client.get("/put?a=1")
    assert (await client.get("/split")).status_code == 200


async def test_a_websocket_saves(storage: Spy, lazy: bool) -> None:
    app = app_of(storage, lazy=lazy)

    @app.websocket("/talk")
    async def talk() -> None:
        while True:
            word = str(await websocket.receive())
            session[word] = True
            if word == "save":
                await save()
            await websocket.send("heard")

    client = app.test_client()
    await client.get("/put?a=1")
    async with asyncio.timeout(20), client.websocket("/talk") as talking:
        await talking.send("save")
        await talking.receive()
        assert await shown(client) == {"a": "1", "save": True}
        await talking.send("at-close")
        await talking.receive()
    if lazy:  # else a handler that is cancelled is the last that is heard of it
        async with asyncio.timeout(10):
            while "at-close" not in await shown(client):
                await asyncio.sleep(0)


async def test_a_websocket_that_ends_itself_saves(storage: Spy, lazy: bool) -> None:
    app = app_of(storage, lazy=lazy)

    @app.websocket("/talk")
    async def talk() -> None:
        await websocket.accept()
        session["talked"] = True

    client = app.test_client()
    await client.get("/put?a=1")
    async with asyncio.timeout(20), client.websocket("/talk") as talking:
        with pytest.raises(WebsocketDisconnectError):
            await talking.receive()
    async with asyncio.timeout(10):
        while "talked" not in await shown(client):
            await asyncio.sleep(0)


def test_event_loops(url: str) -> None:
    storage = SqlSessionStorage(url)
    app = app_of(storage)
    client = app.test_client()

    async def visit(number: int) -> None:
        await client.get(f"/put?key{number}=1")
        assert len(await shown(client)) == number

    for number in range(1, 4):
        asyncio.run(visit(number))
    asyncio.run(storage.aclose())


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "a b"},
        {"samesite": "None", "secure": False},
        {"samesite": "some"},
        {"path": "no-slash"},
        {"max_age": 0},
        {"absolute_timeout": -1},
        {"unavailable": "ignore"},
    ],
)
def test_bad_arguments(storage: Spy, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SqlSessionInterface(storage, **options)


@pytest.mark.parametrize("options", [{"max_age": "1"}, {"serializer": object()}])
def test_arguments_of_the_wrong_type(storage: Spy, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentType):
        SqlSessionInterface(storage, **options)


@pytest.mark.parametrize(
    "config",
    [
        {"SESSION_COOKIE_NAME": "__Host-s", "SESSION_COOKIE_DOMAIN": "service.test"},
        {"SESSION_COOKIE_HTTPONLY": False},
    ],
)
def test_bad_configuration(storage: Spy, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        app_of(storage, config=config)


async def test_helpers_need_the_interface() -> None:
    app = Quart(__name__)
    app.secret_key = "secret"
    async with app.test_request_context("/"):
        with pytest.raises(InvalidArgument, match="SqlSessionInterface"):
            await load()


async def test_a_logout_does_not_read_the_session(storage: Spy, lazy: bool) -> None:
    async def invalidate() -> str:
        session.invalidate()  # type: ignore[attr-defined]
        return "out"

    client = app_of(storage, invalidate, lazy=lazy).test_client()
    await client.get("/put?a=1")
    old = id_of(client)
    assert old is not None
    storage.calls.clear()
    await client.get("/invalidate")
    assert storage.calls == (["invalidate"] if lazy else ["read", "invalidate"])
    assert not id_of(client)
    assert await storage.info(old) is None
