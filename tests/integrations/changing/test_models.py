"""`SessionModel`: changes of one model by several requests are merged field by field."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict

from sqlsessions.integrations.fastapi import CurrentSession, SessionMiddleware, SessionModel, load, save
from sqlsessions.testing import Browser, SpyStorage, asgi


class Cart(BaseModel):
    model_config = ConfigDict(extra="allow")

    items: list[str] = []
    coupon: str | None = None
    gift: bool = False


@dataclasses.dataclass
class Plain:
    items: list[str] = dataclasses.field(default_factory=list)
    coupon: str | None = None
    gift: bool = False


class Struct(msgspec.Struct):
    items: list[str] = msgspec.field(default_factory=list)
    coupon: str | None = None
    gift: bool = False


Step = Callable[[Any, Request], Awaitable[Any]]


def browser_of(storage: SpyStorage, step: Step, model: type[Any] = Cart, **options: Any) -> Browser:
    """A browser of a service that does a step with the model at ``/step``, and changes it in other ways."""
    app, carts = FastAPI(), SessionModel(model, key="cart", **options)
    app.add_middleware(SessionMiddleware, storage=storage)
    dependency = Depends(carts)

    @app.post("/step")
    async def take(request: Request, cart: Any = dependency) -> Any:
        return await step(cart, request)

    @app.post("/coupon")
    async def coupon(text: str, cart: Any = dependency) -> None:
        cart.coupon = text

    @app.post("/item")
    async def item(item: str, request: Request) -> list[str]:
        async def add(cart: Any) -> list[str]:
            items = [*cart.items, item]
            await asyncio.sleep(0)
            cart.items = items
            return items

        return await carts.change(request, add)

    @app.post("/put")
    async def put(session: CurrentSession, request: Request) -> None:
        session.update(request.query_params)

    @app.post("/spoil")
    async def spoil(session: CurrentSession) -> None:
        session["cart"] = {"items": 7, "coupon": "spoiled"}

    @app.get("/show")
    async def show(session: CurrentSession) -> dict[str, Any]:
        return dict(session)

    return Browser(asgi(app), "session")


@pytest.mark.parametrize("model", [Cart, Plain, Struct])
async def test_changes_of_different_fields_are_both_kept(storage: SpyStorage, model: type[Any]) -> None:
    async def step(cart: Any, _request: Request) -> None:
        cart.items.append("apple")
        await browser.other(browser.id).post("/coupon", text="ten")
        cart.gift = True

    browser = browser_of(storage, step, model)
    await browser.begin(a=1)
    for items in (["apple"], ["apple", "apple"]):  # without a model in the session, and with one
        await browser.post("/step")
        expected = {"items": items, "coupon": "ten", "gift": True}
        assert await browser.data() == {"a": "1", "cart": expected}


async def test_the_last_change_of_one_field_is_kept(storage: SpyStorage) -> None:
    async def step(cart: Cart, _request: Request) -> None:
        await browser.other(browser.id).post("/coupon", text="ten")
        cart.coupon = "five"

    browser = browser_of(storage, step)
    await browser.begin(a=1)
    await browser.post("/step")
    assert (await browser.data())["cart"]["coupon"] == "five"


async def test_changes_between_two_writes_of_a_request_are_kept(storage: SpyStorage) -> None:
    async def step(cart: Cart, request: Request) -> None:
        cart.items.append("apple")
        await browser.other(browser.id).post("/coupon", text="ten")
        await save(request)  # the model of this request still has no coupon
        await browser.other(browser.id).post("/item", item="pear")
        cart.gift = True

    browser = browser_of(storage, step)
    await browser.begin(a=1)
    await browser.post("/step")
    assert (await browser.data())["cart"] == {"items": ["apple", "pear"], "coupon": "ten", "gift": True}


async def test_fields_come_and_go(storage: SpyStorage) -> None:
    async def step(cart: Cart, request: Request) -> None:
        await browser.other(browser.id).post("/coupon", text=request.query_params["coupon"])
        if request.query_params["coupon"] == "one":
            cart.note = "hello"  # type: ignore[attr-defined]
        else:
            del cart.note  # type: ignore[attr-defined]

    browser = browser_of(storage, step)
    await browser.begin(a=1)
    await browser.post("/step", coupon="one")
    expected = {"items": [], "coupon": "one", "gift": False, "note": "hello"}
    assert (await browser.data())["cart"] == expected
    await browser.post("/step", coupon="two")
    assert (await browser.data())["cart"] == {"items": [], "coupon": "two", "gift": False}


async def test_data_that_the_model_does_not_accept_may_be_replaced(storage: SpyStorage) -> None:
    async def step(cart: Cart, _request: Request) -> None:
        cart.gift = True

    browser = browser_of(storage, step, invalid="defaults")
    await browser.begin(a=1)
    await browser.post("/spoil")
    await browser.post("/step")
    assert (await browser.data())["cart"] == {"items": [], "coupon": None, "gift": True}


async def test_what_was_changed_before_a_logout_begins_no_session(storage: SpyStorage) -> None:
    async def step(cart: Cart, request: Request) -> None:
        cart.gift = True
        (await load(request)).invalidate()

    browser = browser_of(storage, step)
    await browser.begin(a=1)
    await browser.post("/step")
    assert browser.id is None
    assert [info async for info in storage.sessions()] == []


@pytest.mark.parametrize("model", [Cart, Plain, Struct])
async def test_parallel_changes_of_one_field_lose_nothing(storage: SpyStorage, model: type[Any]) -> None:
    async def step(_cart: Any, _request: Request) -> None: ...

    browser = browser_of(storage, step, model)
    id = await browser.begin(a=1)
    answers = await asyncio.gather(*(browser.other(id).post("/item", item=f"{n}") for n in range(30)))
    assert sorted(len(answer.json()) for answer in answers) == list(range(1, 31))
    assert sorted((await browser.data())["cart"]["items"]) == sorted(f"{n}" for n in range(30))
