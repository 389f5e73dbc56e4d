"""FastAPI's dependencies and typed sessions."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import greenlet
import msgspec
import pytest
from fastapi import Depends, FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient
from pydantic import BaseModel

from sqlsessions import (
    InvalidArgument,
    SessionModelMismatch,
    SessionStorageMemory,
    Snapshot,
    SqlSessionStorage,
)
from sqlsessions.integrations.fastapi import CurrentSession, SessionMiddleware, SessionModel
from sqlsessions.testing import SpyStorage


class Cart(BaseModel):
    items: list[str] = []
    coupon: str | None = None


@dataclasses.dataclass
class Plain:
    items: list[str] = dataclasses.field(default_factory=list)


class Struct(msgspec.Struct):
    items: list[str] = msgspec.field(default_factory=list)


def app_of(storage: Any, model: type[Any] = Cart, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, storage=storage)
    dependency = Depends(SessionModel(model, key="cart", **options))

    @app.get("/add/{item}")
    async def add(item: str, cart: Any = dependency) -> list[str]:
        cart.items.append(item)
        return list(cart.items)

    @app.get("/look")
    async def look(cart: Any = dependency) -> list[str]:
        return list(cart.items)

    @app.get("/raw")
    async def raw(session: CurrentSession) -> dict[str, Any]:
        return dict(session)

    @app.get("/spoil")
    def spoil(session: CurrentSession) -> None:
        session["cart"] = {"items": 7}

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, cart: Any = dependency) -> None:
        await websocket.accept()
        await websocket.send_json(cart.items)
        cart.items.append("by socket")
        await websocket.close()

    return app


@pytest.mark.parametrize("model", [Cart, Plain, Struct])
async def test_a_model_is_kept_and_written_if_it_changed(
    storage: SpyStorage, model: type[Any], caplog: pytest.LogCaptureFixture
) -> None:
    transport = ASGITransport(app_of(storage, model))
    async with AsyncClient(transport=transport, base_url="https://service.test") as client:
        assert (await client.get("/look")).json() == []
        assert storage.calls == []
        await client.get("/add/apple")
        assert (await client.get("/add/pear")).json() == ["apple", "pear"]
        storage.calls.clear()
        assert (await client.get("/look")).json() == ["apple", "pear"]
        assert storage.calls == ["read"]
        assert (await client.get("/raw")).json()["cart"]["items"] == ["apple", "pear"]
        await client.get("/spoil")
        caplog.clear()
        for path in ("/look", "/add/plum"):
            with pytest.raises(SessionModelMismatch, match=f"'cart' is not a valid {model.__name__}"):
                await client.get(path)
        assert (await client.get("/raw")).json() == {"cart": {"items": 7}}
    app = app_of(storage, model, invalid="defaults")
    async with AsyncClient(
        transport=ASGITransport(app), base_url="https://service.test", cookies=client.cookies
    ) as client:
        assert (await client.get("/look")).json() == []
        assert "is ignored" in caplog.text
        assert (await client.get("/add/plum")).json() == ["plum"]
        assert (await client.get("/look")).json() == ["plum"]


async def test_a_mismatch_can_be_handled_and_shows_no_data(storage: SpyStorage) -> None:
    app = app_of(storage)

    @app.exception_handler(SessionModelMismatch)
    async def handled(_request: Request, error: SessionModelMismatch) -> JSONResponse:
        assert error.__cause__ is error.__context__ is None
        return JSONResponse([str(error), error.model, error.key], 409)

    async with AsyncClient(transport=ASGITransport(app), base_url="https://service.test") as client:
        await client.get("/spoil")
        answer = await client.get("/look")
        assert answer.status_code == 409
        assert answer.json()[1:] == ["Cart", "cart"]
        copy = pickle.loads(pickle.dumps(SessionModelMismatch("Cart", "cart")))  # noqa: S301
        assert str(copy) == answer.json()[0]


def test_what_to_do_with_a_mismatch_is_one_of_two() -> None:
    with pytest.raises(InvalidArgument, match="'raise' or 'defaults'"):
        SessionModel(Cart, invalid="ignore")  # type: ignore[arg-type]


def test_a_websocket(url: str) -> None:
    client = TestClient(app_of(SqlSessionStorage(url)))
    client.get("/add/apple")
    with client.websocket_connect("/socket") as socket:
        assert socket.receive_json() == ["apple"]
    assert client.get("/look").json() == ["apple", "by socket"]


def test_a_model_that_needs_arguments_is_refused() -> None:
    class Strict(BaseModel):
        name: str

    with pytest.raises(InvalidArgument, match="default"):
        SessionModel(Strict)


class Suspending(SpyStorage):
    """A storage whose loads suspend many times."""

    suspensions = 0

    async def load(self, id: str) -> Snapshot | None:
        for _ in range(self.suspensions):
            await asyncio.sleep(0)
        return await super().load(id)


@contextmanager
def greenlet_switches() -> Iterator[list[str]]:
    """The switches between greenlets of this thread."""
    switches: list[str] = []
    before = greenlet.gettrace()
    greenlet.settrace(lambda event, _ends: switches.append(event))
    try:
        yield switches
    finally:
        greenlet.settrace(before)


@pytest.mark.parametrize("path", ["/raw", "/look"])
async def test_a_dependency_does_not_load_through_the_greenlet(path: str) -> None:
    storage = Suspending(SessionStorageMemory())
    app = app_of(storage)

    @app.get("/lazy")
    async def lazy(request: Request) -> Any:
        return request.session["cart"]

    async with AsyncClient(transport=ASGITransport(app), base_url="https://service.test") as client:
        await client.get("/add/apple")
        counted = []
        for storage.suspensions in (0, 100):
            with greenlet_switches() as switches:
                assert (await client.get(path)).is_success
            counted.append(len(switches))
            assert (await client.get("/lazy")).json()["items"] == ["apple"]
        assert counted[0] == counted[1]
        assert 0 < counted[0] < 20
