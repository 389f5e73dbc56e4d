"""Quart over our storages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import quart
from quart import Quart, abort, jsonify, redirect, request, session, websocket
from quart.testing.connections import WebsocketDisconnectError
from quart.typing import TestClientProtocol as Client

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage, StorageUnavailable
from sqlsessions.integrations.quart import (
    SqlSessionInterface,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    save,
)
from sqlsessions.testing import ManualClock

from .support import Spy

DAY = 24 * 60 * 60
Handler = Callable[[], Awaitable[Any]]


async def show() -> Any:
    return jsonify(dict(session))


async def put() -> Any:
    session.update(request.args)
    return "put"


async def untouched() -> Any:
    return "untouched"


async def nest() -> Any:
    session.setdefault("list", []).append(1)
    return "nested"


async def login() -> Any:
    session.subject = request.args["user"]  # type: ignore[attr-defined]
    return "in"


async def logout() -> Any:
    session.clear()
    return "out"


async def permanent() -> Any:
    session.permanent = request.args["value"] == "1"
    return "kept"


async def regenerate() -> Any:
    session.regenerate()  # type: ignore[attr-defined]
    return "regenerated"


async def leave() -> Any:
    session["left"] = True
    return redirect("/show")


async def refuse() -> Any:
    session["refused"] = True
    abort(404)


def plain() -> Any:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(dict(session))


HANDLERS = [show, put, untouched, nest, login, logout, permanent, regenerate, leave, refuse, plain]


def app_of(
    storage: Any, *more: Handler, lazy: bool = True, config: dict[str, Any] | None = None, **options: Any
) -> Quart:
    app = Quart(__name__)
    app.config.update(config or {})
    interface = SqlSessionInterface(storage, **options)
    if lazy:
        interface.init_app(app)
    else:
        app.session_interface = interface  # type: ignore[assignment]
    for handler in [*HANDLERS, *more]:
        app.add_url_rule(f"/{handler.__name__}", view_func=handler)  # type: ignore[arg-type]
    return app


@pytest.fixture(params=[True, False], ids=["lazy", "eager"])
def lazy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(storage: Spy) -> Client:
    return app_of(storage).test_client()


async def shown(client: Client) -> Any:
    response = await client.get("/show")
    assert response.status_code == 200
    return await response.get_json()


def id_of(client: Any) -> str | None:
    return next((cookie.value for cookie in client.cookie_jar if cookie.name == "session"), None)


def bring(client: Client, id: str) -> None:
    client.set_cookie("localhost", "session", id)


async def test_a_session_is_kept(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    assert await shown(client) == {}
    await client.get("/put?a=1")
    await client.get("/put?b=2")
    assert await shown(client) == {"a": "1", "b": "2"}


async def test_no_call_without_a_look(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/untouched")
    assert storage.calls == []
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(response.headers.keys())


async def test_no_call_without_a_cookie(client: Client, storage: Spy) -> None:
    response = await client.get("/show")
    assert storage.calls == []
    assert "Set-Cookie" not in response.headers


async def test_reading_writes_nothing(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/show")
    assert storage.calls == ["read"]
    assert "Set-Cookie" not in response.headers
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


async def test_an_equal_value_is_not_written(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    await client.get("/put?a=1")
    assert storage.calls == ["read"]


async def test_a_nested_change_is_noticed(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    for _ in range(3):
        await client.get("/nest")
    assert await shown(client) == {"list": [1, 1, 1]}


async def test_a_handler_in_a_thread(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    for _ in range(3):
        response = await client.get("/plain")
    assert await response.get_json() == {"visits": 3}


async def test_the_cookie_is_safe(client: Client) -> None:
    response = await client.get("/put?a=1")
    parts = set(response.headers["Set-Cookie"].lower().split("; "))
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert not any(part.startswith(("secure", "max-age", "domain")) for part in parts)
    assert response.headers["Cache-Control"] == "no-store"
    response = await client.get("/put?a=2", scheme="https")
    assert "Set-Cookie" not in response.headers


async def test_a_cookie_by_https_is_secure(client: Client) -> None:
    response = await client.get("/put?a=1", scheme="https")
    assert "secure" in response.headers["Set-Cookie"].split("; ")


async def test_the_applications_own_settings(storage: Spy) -> None:
    config = {
        "SESSION_COOKIE_NAME": "own",
        "SESSION_COOKIE_DOMAIN": "service.test",
        "SESSION_COOKIE_PATH": "/put",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    }
    client = app_of(storage, config=config).test_client()
    parts = (await client.get("/put?a=1")).headers["Set-Cookie"].lower().split("; ")
    assert parts[0].startswith("own=")
    assert {"path=/put", "domain=service.test", "secure", "samesite=strict", "partitioned"} <= set(parts)
    client = app_of(storage, config=config, cookie_name="mine", samesite="Lax").test_client()
    parts = (await client.get("/put?a=1")).headers["Set-Cookie"].lower().split("; ")
    assert parts[0].startswith("mine=")
    assert "samesite=lax" in parts


@pytest.mark.parametrize("presented", ["A" * 43, "x", "eyJhIjoxfQ.Zw.sig"])
async def test_an_unknown_id_is_not_adopted(client: Client, presented: str) -> None:
    bring(client, presented)
    response = await client.get("/show")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    bring(client, presented)
    response = await client.get("/put?a=1")
    assert not response.headers["Set-Cookie"].startswith((f"session={presented};", "session=null"))


async def test_permanent_sessions(storage: Spy, clock: ManualClock) -> None:
    client = app_of(storage, config={"PERMANENT_SESSION_LIFETIME": 100}).test_client()
    assert "Max-Age" not in (await client.get("/put?a=1")).headers["Set-Cookie"]
    assert "Max-Age=100" in (await client.get("/permanent?value=1")).headers["Set-Cookie"]
    for _ in range(4):
        clock.advance(60)
        response = await client.get("/show")
        assert await response.get_json() == {"a": "1", "_permanent": True}
        assert "Max-Age=100" in response.headers["Set-Cookie"]
    response = await client.get("/permanent?value=0")
    assert "Max-Age" not in response.headers["Set-Cookie"]
    clock.advance(101)
    assert await shown(client) == {}


async def test_permanence_alone_is_no_session(client: Client, storage: Spy) -> None:
    response = await client.get("/permanent?value=1")
    assert "Set-Cookie" not in response.headers
    assert storage.calls == []


async def test_reading_need_not_refresh(storage: Spy, clock: ManualClock) -> None:
    config = {"PERMANENT_SESSION_LIFETIME": 100, "SESSION_REFRESH_EACH_REQUEST": False}
    client = app_of(storage, config=config).test_client()
    await client.get("/put?a=1")
    clock.advance(60)
    assert await shown(client) == {"a": "1"}
    clock.advance(60)
    assert await shown(client) == {}


async def test_an_expiry_of_its_own(storage: Spy, clock: ManualClock) -> None:
    async def remember() -> Any:
        session.set_expiry(300 * DAY)  # type: ignore[attr-defined]
        return "remembered"

    client = app_of(storage, remember).test_client()
    await client.get("/put?a=1")
    assert f"Max-Age={300 * DAY}" in (await client.get("/remember")).headers["Set-Cookie"]
    id = id_of(client)
    assert id
    clock.advance(299 * DAY)
    bring(client, id)
    assert await shown(client) == {"a": "1"}


async def test_a_login_changes_the_id(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/login?user=ada")
    assert id_of(client) != old
    assert await storage.delegate.info(old) is None
    assert await shown(client) == {"a": "1"}


async def test_a_new_id_on_demand(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/regenerate")
    assert id_of(client) != old
    assert await storage.delegate.info(old) is None


async def test_logout(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    await client.get("/permanent?value=1")
    old = id_of(client)
    assert old
    assert "Max-Age=0" in (await client.get("/logout")).headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None
    bring(client, old)
    assert await shown(client) == {}


async def test_redirects_and_errors_save(client: Client) -> None:
    await client.get("/leave")
    assert (await client.get("/refuse")).status_code == 404
    assert await shown(client) == {"left": True, "refused": True}


async def test_types_that_flask_tags(storage: Spy) -> None:
    async def tagged() -> Any:
        session["tuple"] = (1, b"bytes")
        await quart.flash("hello", "greeting")
        return "tagged"

    async def untagged() -> Any:
        assert session["tuple"] == (1, b"bytes")
        return jsonify(quart.get_flashed_messages(with_categories=True))

    client = app_of(storage, tagged, untagged).test_client()
    await client.get("/tagged")
    assert await (await client.get("/untagged")).get_json() == [["greeting", "hello"]]


async def test_list_and_end_sessions(storage: Spy, clock: ManualClock) -> None:
    async def sessions() -> Any:
        return jsonify([info.key async for info in list_sessions()])

    async def end() -> Any:
        return jsonify(await end_session(request.args["key"]))

    async def end_others() -> Any:
        return jsonify(await end_other_sessions())

    app = app_of(storage, sessions, end, end_others)
    first, second = app.test_client(), app.test_client()
    await first.get("/login?user=ada")
    clock.advance(1)
    await second.get("/login?user=ada")
    newest, _ = await (await first.get("/sessions")).get_json()
    assert await (await first.get(f"/end?key={newest}")).get_json() is True
    assert await (await first.get(f"/end?key={newest}")).get_json() is False
    await second.get("/login?user=ada")
    assert await (await first.get("/end_others")).get_json() == 1
    assert len(await (await first.get("/sessions")).get_json()) == 1


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


async def _teapot(_error: Exception) -> Any:
    return "down", 418


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
            word = await websocket.receive()
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
