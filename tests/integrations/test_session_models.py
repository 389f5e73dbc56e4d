"""`SessionModel` of each framework but FastAPI. mypy checks this module as strictly as an application's."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any, assert_type

import flask
import litestar.testing
import pytest
from aiohttp import web
from starlette.requests import Request as StarletteRequest

from sqlsessions import InvalidArgument, SessionModelMismatch, SessionStorageMemory
from sqlsessions.integrations import aiohttp as aiohttp_sessions
from sqlsessions.integrations import flask as flask_sessions
from sqlsessions.integrations import litestar as litestar_sessions
from sqlsessions.integrations import quart as quart_sessions
from sqlsessions.integrations import starlette as starlette_sessions
from sqlsessions.testing import SpyStorage

from .model_services import (
    MODELS,
    SERVICES,
    Checked,
    Model,
    Plain,
    Service,
    Struct,
    aiohttp_,
    flask_,
    litestar_app,
    quart_app,
)

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage(SessionStorageMemory())


by_service = pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.__name__.strip("_"))


@by_service
@pytest.mark.parametrize("kind", MODELS, ids=lambda each: each.__name__)
async def test_a_model_is_kept_and_written_if_it_changed(
    service: Service, kind: type[Any], storage: SpyStorage
) -> None:
    async with service(storage, kind) as ask:
        assert await ask("/look") == [[], False]
        assert storage.calls == []
        assert await ask("/put?item=apple") == ["apple"]
        await ask("/add?item=pear")
        await ask("/gift")
        storage.calls.clear()
        assert await ask("/look") == [["apple", "pear"], True]
        assert storage.calls == ["read"]


@by_service
async def test_changes_of_different_fields_are_both_kept_and_no_item_is_lost(
    service: Service, storage: SpyStorage
) -> None:
    async with service(storage) as ask:
        await ask("/put?item=first")
        if service is flask_:  # whose test client serves one request after the other
            for number in range(9):
                await ask(f"/add?item={number}")
            await ask("/gift")
        else:
            await asyncio.gather(ask("/gift"), *(ask(f"/add?item={number}") for number in range(9)))
        items, gift = await ask("/look")
        assert sorted(items) == [*"012345678", "first"]
        assert gift


@by_service
async def test_what_a_model_does_not_accept_is_an_error(
    service: Service, storage: SpyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    before = SessionModelMismatch.__init__

    def noted(self: Any, *arguments: Any) -> None:
        raised.append(arguments)
        before(self, *arguments)

    monkeypatch.setattr(SessionModelMismatch, "__init__", noted)
    async with service(storage) as ask:
        await ask("/spoil")
        with suppress(SessionModelMismatch, json.JSONDecodeError):  # raised to the client, or status 500
            await ask("/look")
        assert raised == [("Plain", "cart")]


async def test_a_model_of_a_websocket(storage: SpyStorage) -> None:
    with litestar.testing.TestClient(litestar_app(storage, Model)) as client:
        client.get("/put?item=apple")
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_json() == ["apple"]
        assert client.get("/look").json() == [["apple", "by socket"], False]


async def test_a_model_of_a_websocket_in_aiohttp(storage: SpyStorage) -> None:
    async with aiohttp_(storage, Struct) as ask:
        await ask("/put?item=apple")
        assert await ask("/socket") == ["apple"]
        assert await ask("/look") == [["apple", "by socket"], False]


async def test_a_model_of_a_websocket_and_a_stream_in_quart(storage: SpyStorage) -> None:
    client = quart_app(storage, Model).test_client()
    await client.get("/put?item=apple")
    async with client.websocket("/socket") as socket:
        assert await socket.receive_json() == ["apple"]
    await (await client.get("/stream")).get_data()
    answer: Any = await (await client.get("/look")).get_json()
    assert answer == [["apple", "by socket", "by stream"], False]


def test_an_async_function_is_refused_where_nothing_awaits() -> None:
    app = flask.Flask(__name__)
    flask_sessions.SqlSessionInterface(SessionStorageMemory()).init_app(app)
    carts = flask_sessions.SessionModel(Plain)

    async def change(cart: Plain) -> None:
        """Is never run."""

    with app.test_request_context(), pytest.raises(TypeError, match="must not be async"):
        carts.change(change)  # type: ignore[unused-coroutine]


def test_a_dataclass_without_msgspec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(InvalidArgument, match="pip install msgspec"):
        quart_sessions.SessionModel(Plain)
    quart_sessions.SessionModel(Checked)


async def types(request: StarletteRequest, aiohttp_request: web.Request, scope: Any) -> None:
    """What type checkers make of models; it is not called."""
    starlettes = starlette_sessions.SessionModel(Model)
    assert_type(await starlettes(request), Model)
    assert_type(await starlettes.change(request, lambda cart: cart.gift), bool)
    litestars = litestar_sessions.SessionModel(Model)
    assert_type(await litestars(scope), Model)
    assert_type(await litestars.change(request, lambda cart: cart.gift), bool)
    aiohttps = aiohttp_sessions.SessionModel(Model)
    assert_type(await aiohttps(aiohttp_request), Model)
    assert_type(await aiohttps.change(aiohttp_request, lambda cart: cart.gift), bool)
    quarts = quart_sessions.SessionModel(Model)
    assert_type(await quarts(), Model)
    assert_type(await quarts.change(lambda cart: cart.gift), bool)
    flasks = flask_sessions.SessionModel(Model)
    assert_type(flasks(), Model)
    assert_type(flasks.change(lambda cart: cart.gift), bool)
