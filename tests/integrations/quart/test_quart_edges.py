"""Quart: expiry, errors, and what else may happen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quart import Quart, session, websocket
from quart.testing.connections import WebsocketDisconnectError

from sqlsessions import InvalidArgument, InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations.quart import SqlSessionInterface, load, save
from sqlsessions.testing import SpyStorage

from .app import (
    _teapot,
    app_of,
    id_of,
    shown,
)


async def test_an_unavailable_storage_for_a_handler_in_a_thread(storage: SpyStorage, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    await client.get("/put?a=1")
    storage.down = True
    response = await client.get("/plain")
    assert response.status_code == 503
    assert "Set-Cookie" not in response.headers
    storage.down = False
    assert await shown(client) == {"a": "1"}


async def test_an_unavailable_storage_raises(storage: SpyStorage, lazy: bool) -> None:
    app = app_of(storage, lazy=lazy, unavailable="raise")
    app.register_error_handler(StorageUnavailable, _teapot)
    client = app.test_client()
    await client.get("/put?a=1")
    storage.down = True
    assert (await client.get("/show")).status_code == 418


async def test_a_websocket_saves(storage: SpyStorage, lazy: bool) -> None:
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


async def test_a_websocket_that_ends_itself_saves(storage: SpyStorage, lazy: bool) -> None:
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


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "a b"},
        {"samesite": "None", "secure": False},
        {"samesite": "some"},
        {"path": "no-slash"},
        {"ttl": 0},
        {"absolute_timeout": -1},
        {"unavailable": "ignore"},
    ],
)
def test_bad_arguments(storage: SpyStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SqlSessionInterface(storage, **options)


@pytest.mark.parametrize("options", [{"ttl": "1"}, {"serializer": object()}])
def test_arguments_of_the_wrong_type(storage: SpyStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentType):
        SqlSessionInterface(storage, **options)


@pytest.mark.parametrize(
    "config",
    [
        {"SESSION_COOKIE_NAME": "__Host-s", "SESSION_COOKIE_DOMAIN": "service.test"},
        {"SESSION_COOKIE_HTTPONLY": False},
    ],
)
def test_bad_configuration(storage: SpyStorage, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        app_of(storage, config=config)


async def test_helpers_need_the_interface() -> None:
    app = Quart(__name__)
    app.secret_key = "secret"
    async with app.test_request_context("/"):
        with pytest.raises(InvalidArgument, match="SqlSessionInterface"):
            await load()


async def test_a_logout_does_not_read_the_session(storage: SpyStorage, lazy: bool) -> None:
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
