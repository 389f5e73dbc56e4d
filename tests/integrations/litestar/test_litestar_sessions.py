"""Litestar: what requests may rely on."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from litestar import Litestar, get, post
from litestar.di import NamedDependency, Provide
from litestar.response import Stream
from litestar.security.session_auth import SessionAuth
from litestar.status_codes import HTTP_401_UNAUTHORIZED
from litestar.testing import AsyncTestClient
from litestar.types import Empty

from sqlsessions.integrations.litestar import Session, SessionConfig, load
from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    Req,
    app_over,
    concurrent,
    cookie_of,
    login,
    logout,
    read,
    set_session,
    subject,
)


@pytest.mark.parametrize("value", [Empty, None, {}])
async def test_logout(storage: SpyStorage, value: Any) -> None:
    @post("/out")
    async def out(request: Req) -> None:
        request.set_session(value)

    async with AsyncTestClient(app_over(storage, out)) as client:
        await client.post("/login", params={"user": "alice"})
        left_over = client.cookies["session"]
        response = await client.post("/out")
        assert "Max-Age=0" in response.headers["set-cookie"]
        client.cookies.set("session", left_over)
        assert (await client.get("/read")).json() == {}


async def test_the_cookie_lasts_for_two_weeks(client: AsyncTestClient[Litestar]) -> None:
    response = await client.post("/write", json={"a": 1})
    assert "Max-Age=1209600" in response.headers["set-cookie"].split("; ")


async def test_set_session_with_all_keys_is_a_change(client: AsyncTestClient[Litestar]) -> None:
    before = cookie_of(await client.post("/write", json={"a": 1}))
    await client.post("/set", json={"a": 2, "b": 3})
    assert client.cookies["session"] == before
    assert (await client.get("/read")).json() == {"a": 2, "b": 3}


async def test_set_session_replaces_with_a_new_id(client: AsyncTestClient[Litestar]) -> None:
    await client.post("/write", json={"a": 1})
    await client.post("/login", params={"user": "alice"})
    before = client.cookies["session"]
    after = cookie_of(await client.post("/set", json={"b": 2}))
    assert after not in (None, before)
    assert (await client.get("/read")).json() == {"b": 2}
    assert (await client.get("/subject")).json() == {"subject": "alice"}


async def test_set_session_takes_models(storage: SpyStorage) -> None:
    @dataclass
    class Basket:
        items: list[str]

    @post("/basket")
    async def basket(request: Req) -> None:
        request.set_session(Basket(["apple"]))

    async with AsyncTestClient(app_over(storage, basket)) as client:
        await client.post("/basket")
        assert (await client.get("/read")).json() == {"items": ["apple"]}


async def test_set_session_takes_a_session(storage: SpyStorage) -> None:
    @post("/own")
    async def own(request: Req) -> None:
        request.session["b"] = 2
        request.set_session(request.session)

    @post("/other")
    async def other(request: Req) -> None:
        request.set_session(Session(c=3))

    async with AsyncTestClient(app_over(storage, own, other)) as client:
        await client.post("/write", json={"a": 1})
        await client.post("/own")
        assert (await client.get("/read")).json() == {"a": 1, "b": 2}
        await client.post("/other")
        assert (await client.get("/read")).json() == {"c": 3}


async def test_the_innermost_middleware_counts(storage: SpyStorage) -> None:
    """As where an application has both `SessionConfig.middleware` and `SessionAuth`."""
    config = SessionConfig(storage)
    app = Litestar([read, set_session, logout], middleware=[config.middleware, config.middleware])
    async with AsyncTestClient(app) as client:
        response = await client.post("/set", json={"a": 1})
        assert len(response.headers.get_list("set-cookie")) == 1
        assert storage.calls == ["write"]
        await client.post("/set", json={"b": 2})
        assert (await client.get("/read")).json() == {"b": 2}
        left_over = client.cookies["session"]
        await client.post("/logout")
        client.cookies.set("session", left_over)
        assert (await client.get("/read")).json() == {}


async def test_session_auth(storage: SpyStorage, clock: ManualClock) -> None:
    """Litestar's own authentication over our sessions."""

    async def user_of(session: dict[str, Any], connection: Any) -> str | None:
        return session.get("user")

    @get("/me")
    async def me(request: Req) -> str:
        return str(request.user)

    auth = SessionAuth[Any, Any](
        retrieve_user_handler=user_of,
        session_backend_config=SessionConfig(storage),
        exclude=["/login", "/schema"],
    )
    app = Litestar([me, login, logout], on_app_init=[auth.on_app_init])
    async with AsyncTestClient(app) as client:
        assert (await client.get("/me")).status_code == HTTP_401_UNAUTHORIZED
        assert storage.calls == []
        await client.post("/login", params={"user": "alice"})
        assert (await client.get("/me")).text == "alice"
        left_over = client.cookies["session"]
        await client.post("/logout")
        client.cookies.set("session", left_over)
        clock.advance(10)
        response = await client.get("/me")
        assert response.status_code == HTTP_401_UNAUTHORIZED
        assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize("to_thread", [True, False])
async def test_sync_handlers_read_where_they_run(storage: SpyStorage, to_thread: bool) -> None:
    @get("/sync", sync_to_thread=to_thread)
    def sync(request: Req) -> dict[str, Any]:
        assert (threading.current_thread() is not main) is to_thread
        request.session["seen"] = True
        return dict(request.session)

    main = threading.current_thread()
    async with concurrent(app_over(storage, sync)) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.get("/sync")).json() == {"a": 1, "seen": True}
        assert (await client.get("/read")).json() == {"a": 1, "seen": True}


async def test_a_stream_may_change_the_session_that_the_browser_has(
    storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    @get("/stream")
    async def stream(request: Req) -> Stream:
        async def pieces() -> AsyncIterator[str]:
            session = await load(request)
            session["streamed"] = True
            yield str(session.get("a"))

        return Stream(pieces)

    async with AsyncTestClient(app_over(storage, stream)) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.get("/stream")).text == "1"
        assert (await client.get("/read")).json() == {"a": 1, "streamed": True}
        assert "too late" not in caplog.text
        client.cookies.clear()
        await client.get("/stream")
        assert "too late" in caplog.text


@pytest.mark.usefixtures("closed_in_background")
async def test_dependencies_in_tasks_of_their_own(
    storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async def one(request: Req) -> Any:
        return request.session["a"]

    async def two(request: Req) -> Any:
        return request.session["a"] + 1

    dependencies = {"one": Provide(one), "two": Provide(two)}

    @get("/both", dependencies=dependencies)
    async def both(one: NamedDependency[int], two: NamedDependency[int]) -> list[Any]:
        return [one, two]

    @get("/one", dependencies={"one": Provide(one)})
    async def only(one: NamedDependency[int]) -> list[Any]:
        return [one]

    async with AsyncTestClient(app_over(storage, both, only)) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.get("/both")).json() == [1, 2]
        assert (await client.get("/one")).json() == [1]
        assert "eager" not in caplog.text
    async with AsyncTestClient(app_over(storage, both, eager=False)) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.get("/both")).json() == [1, 2]
        assert "eager=True" in caplog.text
    async with AsyncTestClient(app_over(storage, eager=True)) as client:
        await client.post("/write", json={"a": 1})
        storage.calls.clear()
        await client.get("/untouched")
        assert storage.calls == ["read"]


async def test_routes_without_sessions(storage: SpyStorage) -> None:
    @get("/skipped", skip_session=True)
    async def skipped(request: Req) -> bool:
        return "session" in request.scope

    @get("/excluded")
    async def excluded(request: Req) -> bool:
        return "session" in request.scope

    async with AsyncTestClient(app_over(storage, skipped, excluded, exclude="^/excl")) as client:
        assert (await client.get("/skipped")).json() is False
        assert (await client.get("/excluded")).json() is False
        assert (await client.get("/read")).json() == {}


async def test_helpers_need_the_middleware(storage: SpyStorage) -> None:
    async with AsyncTestClient(Litestar([subject], debug=False)) as client:
        assert (await client.get("/subject")).status_code == 500


async def test_unavailable_when_loaded(client: AsyncTestClient[Litestar], storage: SpyStorage) -> None:
    await client.post("/write", json={"a": 1})
    storage.down = True
    response = await client.get("/subject")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in response.headers
