"""Labels of sessions, and what is kept of their clients, in the web frameworks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionInfo, SessionStorageMemory
from sqlsessions.integrations._web.clients import ClientRequest, address_and_user_agent, address_of
from sqlsessions.testing import ManualClock, SpyStorage

from .moving import answer, begin, id_of, process, read, sessions

AGENT = "Tests/1 (" + "x" * 600 + ")"


@pytest.fixture
def memory(clock: ManualClock) -> SpyStorage:
    return SpyStorage(SessionStorageMemory(clock=clock))


async def labels(memory: SpyStorage) -> list[tuple[str, ...]]:
    return [info.labels for info in await sessions(memory)]


async def test_labels_are_kept_moved_changed_and_dropped(memory: SpyStorage) -> None:
    manager = process(memory)
    session = await read(manager, await begin(manager, a=1))
    assert session.labels == ()
    session.labels = ["tenant:7", "sid:1"]
    assert session.labels == ("sid:1", "tenant:7")
    await answer(manager, session)
    assert await labels(memory) == [("sid:1", "tenant:7")]
    session = await read(manager, id_of(session))
    session.subject = "ann"
    await answer(manager, session)
    assert await labels(memory) == [("sid:1", "tenant:7")]
    session = await read(manager, id_of(session))
    session.labels = {"sid:2"}
    await answer(manager, session)
    assert await labels(memory) == [("sid:2",)]
    session = await read(manager, id_of(session))
    session.subject = "bob"
    session["b"] = 1
    await answer(manager, session)
    assert await labels(memory) == [()]


async def test_labels_are_written_only_when_they_change(memory: SpyStorage) -> None:
    manager = process(memory)
    session = await read(manager, await begin(manager, a=1))
    session.labels = ["a"]
    await answer(manager, session)
    memory.calls.clear()
    session = await read(manager, id_of(session))
    session.labels = ["a", "a"]
    await answer(manager, session)
    assert memory.writes == []


async def test_a_new_session_begins_with_its_labels_and_an_ended_one_leaves_none(memory: SpyStorage) -> None:
    manager = process(memory)
    session = manager.open()
    session.labels = ["sid:1"]
    session.subject = "ann"
    await answer(manager, session)
    assert await labels(memory) == [("sid:1",)]
    session = await read(manager, id_of(session))
    session.invalidate()
    session["a"] = 1
    await answer(manager, session)
    assert await labels(memory) == [()]
    session = await read(manager, id_of(session))
    session.labels = ["sid:2"]
    session.clear()
    session["b"] = 1
    await answer(manager, session)
    assert await labels(memory) == [()]


async def test_labels_outlast_a_concurrent_write(memory: SpyStorage) -> None:
    manager = process(memory)
    id = await begin(manager, a=1)
    one, other = await read(manager, id), await read(manager, id)
    other["b"] = 1
    await answer(manager, other)
    one.labels = ["a"]
    await answer(manager, one)
    session = await read(manager, id)
    assert (session.labels, session.plain()) == (("a",), {"a": 1, "b": 1})


async def test_what_is_no_label_is_refused(memory: SpyStorage) -> None:
    session = process(memory).open()
    with pytest.raises(InvalidArgument, match="label"):
        session.labels = [""]
    with pytest.raises(InvalidArgumentType, match="labels"):
        session.labels = "sid"


def test_a_client_info_that_is_no_function_is_refused(memory: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType, match="client_info"):
        process(memory, client_info="address")


def test_a_request_without_an_address_or_agent() -> None:
    request = ClientRequest(lambda _: [], lambda: address_of({"client": None}))
    assert address_and_user_agent(request) == {}
    assert request.header("X-Device") is None


def of_starlette(storage: Any, client_info: Any) -> Callable[[str], Awaitable[int]]:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from sqlsessions.integrations.starlette import SessionMiddleware

    async def count(request: Request) -> Response:
        request.session["count"] = request.session.get("count", 0) + 1
        return Response()

    middleware = Middleware(SessionMiddleware, storage=storage, client_info=client_info)
    client = TestClient(Starlette(routes=[Route("/", count)], middleware=[middleware]))

    async def get(agent: str) -> int:
        return client.get("/", headers={"User-Agent": agent}).status_code

    return get


def of_litestar(storage: Any, client_info: Any) -> Callable[[str], Awaitable[int]]:
    from litestar import Litestar, Request
    from litestar import get as route
    from litestar.testing import AsyncTestClient

    from sqlsessions.integrations.litestar import SessionConfig

    @route("/")
    async def count(request: Request[Any, Any, Any]) -> None:
        request.session["count"] = request.session.get("count", 0) + 1

    config = SessionConfig(storage=storage, client_info=client_info)
    client = AsyncTestClient(Litestar([count], middleware=[config.middleware]))

    async def get(agent: str) -> int:
        async with client:
            return (await client.get("/", headers={"User-Agent": agent})).status_code

    return get


def of_flask(storage: Any, client_info: Any) -> Callable[[str], Awaitable[int]]:
    from flask import Flask, session

    from sqlsessions.integrations.flask import SqlSessionInterface

    app = Flask(__name__)
    app.session_interface = SqlSessionInterface(storage, client_info=client_info)

    @app.get("/")
    def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return ""

    client = app.test_client()

    async def get(agent: str) -> int:
        return client.get("/", headers={"User-Agent": agent}).status_code

    return get


def of_quart(storage: Any, client_info: Any) -> Callable[[str], Awaitable[int]]:
    from quart import Quart, session

    from sqlsessions.integrations.quart import SqlSessionInterface

    app = Quart(__name__)
    app.session_interface = SqlSessionInterface(storage, client_info=client_info)  # type: ignore[assignment]

    @app.get("/")
    async def count() -> str:
        session["count"] = session.get("count", 0) + 1
        return ""

    client = app.test_client()

    async def get(agent: str) -> int:
        return (await client.get("/", headers={"User-Agent": agent})).status_code

    return get


def of_aiohttp(storage: Any, client_info: Any) -> Callable[[str], Awaitable[int]]:
    from aiohttp import CookieJar, web
    from aiohttp.test_utils import TestClient, TestServer
    from aiohttp_session import get_session

    from sqlsessions.integrations.aiohttp import AioHttpStorage, setup

    async def count(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["count"] = session.get("count", 0) + 1
        return web.Response()

    app = web.Application()
    setup(app, AioHttpStorage(storage, client_info=client_info))
    app.router.add_get("/", count)
    cookies: dict[str, str] = {}

    async def get(agent: str) -> int:
        async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True), cookies=cookies) as client:
            response = await client.get("/", headers={"User-Agent": agent})
            cookies.update({name: morsel.value for name, morsel in response.cookies.items()})
            return response.status

    return get


APPLICATIONS = {
    "starlette": (of_starlette, "testclient"),
    "litestar": (of_litestar, "testclient"),
    "flask": (of_flask, "127.0.0.1"),
    "quart": (of_quart, "<local>"),
    "aiohttp": (of_aiohttp, "127.0.0.1"),
}


@pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")
@pytest.mark.parametrize("name", APPLICATIONS)
async def test_address_and_user_agent_are_kept_by_each_write(name: str, clock: ManualClock) -> None:
    make, address = APPLICATIONS[name]
    storage = SessionStorageMemory(clock=clock)

    async def only() -> SessionInfo:
        [info] = [info async for info in storage.sessions()]
        return info

    get = make(storage, address_and_user_agent)
    assert await get(AGENT) in (200, 204)
    assert (await only()).client == {"address": address, "user_agent": AGENT[:512]}
    assert await get("Other/2") in (200, 204)
    assert (await only()).client == {"address": address, "user_agent": "Other/2"}


async def test_a_function_of_ones_own_sees_the_request(clock: ManualClock) -> None:
    storage = SessionStorageMemory(clock=clock)

    def device(request: ClientRequest) -> Mapping[str, str] | None:
        agent = request.header("user-agent")
        return None if agent == "nothing" else {"device": f"{agent} at {request.address}"}

    get = of_starlette(storage, device)
    await get("Phone")
    assert [info.client async for info in storage.sessions()] == [{"device": "Phone at testclient"}]
    await get("nothing")
    assert [info.client async for info in storage.sessions()] == [None]
