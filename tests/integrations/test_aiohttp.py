"""aiohttp-session over our storages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp_session
import pytest
from aiohttp import CookieJar, WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session import get_session

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage, UnsupportedOperation
from sqlsessions.integrations.aiohttp import (
    AioHttpStorage,
    Session,
    end_other_sessions,
    end_session,
    list_sessions,
    save,
    setup,
)
from sqlsessions.testing import ManualClock

from .support import Spy

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")

Client = TestClient[web.Request, web.Application]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NAME = "AIOHTTP_SESSION"
DAY = 24 * 60 * 60


async def session_of(request: web.Request) -> Session:
    session = await get_session(request)
    assert isinstance(session, Session)
    return session


async def show(request: web.Request) -> web.Response:
    return web.json_response(dict(await get_session(request)))


async def put(request: web.Request) -> web.Response:
    (await get_session(request)).update(request.query)
    return web.Response(text="put")


async def untouched(_request: web.Request) -> web.Response:
    return web.Response(text="untouched")


async def nest(request: web.Request) -> web.Response:
    (await get_session(request)).setdefault("list", []).append(1)
    return web.Response(text="nested")


async def fresh(request: web.Request) -> web.Response:
    session = await aiohttp_session.new_session(request)
    session.update(request.query)
    if "age" in request.query:
        session.max_age = None
    return web.Response(text="fresh")


async def login(request: web.Request) -> web.Response:
    (await session_of(request)).subject = request.query["user"]
    return web.Response(text="in")


async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).invalidate()
    return web.Response(text="out")


async def leave(request: web.Request) -> web.Response:
    (await get_session(request))["left"] = True
    raise web.HTTPFound("/show")


async def remember(request: web.Request) -> web.Response:
    age = request.query["age"]
    (await get_session(request)).max_age = None if age == "none" else int(age)
    return web.Response(text="remembered")


HANDLERS = [show, put, untouched, nest, fresh, login, logout, leave, remember]


def app_of(
    storage: Any, *more: Handler, install: Any = aiohttp_session.setup, **options: Any
) -> web.Application:
    app = web.Application()
    install(app, AioHttpStorage(storage, **options))
    for handler in [*HANDLERS, *more]:
        app.router.add_get(f"/{handler.__name__}", handler)  # type: ignore[attr-defined]
    return app


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[Client]:
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


@pytest.fixture
async def client(storage: Spy) -> AsyncIterator[Client]:
    async with served(app_of(storage)) as client:
        yield client


async def shown(client: Client) -> Any:
    async with client.get("/show") as response:
        assert response.status == 200
        return await response.json()


def id_of(client: Client) -> str | None:
    found = client.session.cookie_jar.filter_cookies(client.make_url("/")).get(NAME)
    return found.value if found else None


def bring(client: Client, id: str) -> None:
    client.session.cookie_jar.clear()
    client.session.cookie_jar.update_cookies({NAME: id}, client.make_url("/"))


async def test_a_session_is_kept(client: Client) -> None:
    assert await shown(client) == {}
    await client.get("/put?a=1")
    await client.get("/put?b=2")
    assert await shown(client) == {"a": "1", "b": "2"}


async def test_no_call_without_a_look(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/untouched")
    assert storage.calls == []
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(response.headers)


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


async def test_a_nested_change_is_noticed(client: Client) -> None:
    for _ in range(3):
        await client.get("/nest")
    assert await shown(client) == {"list": [1, 1, 1]}


async def test_the_cookie_is_safe(client: Client) -> None:
    response = await client.get("/put?a=1")
    parts = response.headers["Set-Cookie"].lower().split("; ")
    assert {"httponly", "samesite=lax", "path=/"} <= set(parts)
    assert not any(part.startswith(("secure", "max-age", "domain")) for part in parts)
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_cookie_as_set(storage: Spy) -> None:
    options = {"cookie_name": "__Secure-s", "path": "/put", "samesite": "Strict", "max_age": 60}
    async with served(app_of(storage, partitioned=True, domain="service.test", **options)) as client:
        parts = (await client.get("/put?a=1")).headers["Set-Cookie"].lower().split("; ")
    assert parts[0].startswith("__secure-s=")
    wanted = {"path=/put", "samesite=strict", "max-age=60", "secure", "partitioned", "domain=service.test"}
    assert wanted <= set(parts)


@pytest.mark.parametrize("presented", ["A" * 43, "x", '{"session": {"a": 1}}'])
async def test_an_unknown_id_is_not_adopted(client: Client, presented: str) -> None:
    bring(client, presented)
    response = await client.get("/show")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    bring(client, presented)
    await client.get("/put?a=1")
    assert id_of(client) not in (None, presented)


async def test_an_expired_session_is_not_adopted(storage: Spy, clock: ManualClock) -> None:
    async with served(app_of(storage, max_age=100)) as client:
        await client.get("/put?a=1")
        old = id_of(client)
        assert old
        clock.advance(101)
        bring(client, old)
        assert await shown(client) == {}
        bring(client, old)
        await client.get("/put?b=1")
        assert id_of(client) != old


async def test_use_extends_a_session_and_its_cookie(storage: Spy, clock: ManualClock) -> None:
    async with served(app_of(storage, max_age=100)) as client:
        await client.get("/put?a=1")
        for _ in range(5):
            clock.advance(60)
            response = await client.get("/show")
            assert await response.json() == {"a": "1"}
            assert "Max-Age=100" in response.headers["Set-Cookie"]


async def test_an_absolute_timeout(storage: Spy, clock: ManualClock) -> None:
    async with served(app_of(storage, max_age=100, absolute_timeout=150)) as client:
        await client.get("/put?a=1")
        old = id_of(client)
        assert old
        clock.advance(90)
        await client.get("/show")
        clock.advance(61)
        bring(client, old)
        assert await shown(client) == {}


async def test_an_expiry_of_its_own(storage: Spy, clock: ManualClock) -> None:
    async with served(app_of(storage, max_age=100)) as client:
        await client.get("/put?a=1")
        response = await client.get(f"/remember?age={30 * DAY}")
        assert f"Max-Age={30 * DAY}" in response.headers["Set-Cookie"]
        old = id_of(client)
        assert old
        clock.advance(29 * DAY)
        bring(client, old)
        assert await shown(client) == {"a": "1"}
    async with served(app_of(storage, max_age=100)) as client:
        response = await client.get("/fresh?a=1&age=none")
        assert "Max-Age" not in response.headers["Set-Cookie"]


async def test_a_session_says_its_age(storage: Spy, clock: ManualClock) -> None:
    ages = []

    async def age(request: web.Request) -> web.Response:
        session = await get_session(request)
        ages.append((session.max_age, session.new, session.identity, session.created))
        session["a"] = 1
        return web.Response()

    async with served(app_of(storage, age, max_age=100)) as client:
        await client.get("/age")
        await client.get("/remember?age=500")
        started = int(clock())
        clock.advance(10)
        await client.get("/age")
        assert ages[0][:3] == (100, True, None)
        assert ages[1] == (500, False, id_of(client), started)


async def test_a_new_session_replaces_the_old(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/fresh?b=2")
    new = id_of(client)
    assert new not in (None, old)
    assert await shown(client) == {"b": "2"}
    assert await storage.delegate.info(old) is None
    # A request that was sent with the old id does not take the new cookie away.
    bring(client, old)
    assert "Set-Cookie" not in (await client.get("/show")).headers


async def test_an_empty_new_session_ends_the_old(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    response = await client.get("/fresh")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None


async def test_a_new_session_without_an_old(client: Client, storage: Spy) -> None:
    await client.get("/fresh?b=2")
    assert storage.calls == ["write"]
    assert await shown(client) == {"b": "2"}


async def test_a_login_changes_the_id(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/login?user=ada")
    assert id_of(client) != old
    assert await storage.delegate.info(old) is None
    assert await shown(client) == {"a": "1"}


async def test_a_login_may_keep_the_id(storage: Spy) -> None:
    async with served(app_of(storage, rotate_on_login=False)) as client:
        await client.get("/put?a=1")
        old = id_of(client)
        await client.get("/login?user=ada")
        assert id_of(client) == old


async def test_a_new_id_on_demand(storage: Spy) -> None:
    async def regenerate(request: web.Request) -> web.Response:
        (await session_of(request)).regenerate()
        return web.Response()

    async with served(app_of(storage, regenerate)) as client:
        await client.get("/put?a=1")
        old = id_of(client)
        assert old
        await client.get("/regenerate")
        assert id_of(client) != old
        assert await shown(client) == {"a": "1"}
        assert await storage.delegate.info(old) is None


async def test_logout(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    response = await client.get("/logout")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None
    bring(client, old)
    assert await shown(client) == {}


async def test_a_redirect_saves(client: Client) -> None:
    async with client.get("/leave") as response:
        assert await response.json() == {"left": True}


async def test_list_and_end_sessions(storage: Spy, clock: ManualClock) -> None:
    async def sessions(request: web.Request) -> web.Response:
        return web.json_response([info.key async for info in list_sessions(request)])

    async def end(request: web.Request) -> web.Response:
        return web.json_response(await end_session(request, request.query["key"]))

    async def end_others(request: web.Request) -> web.Response:
        return web.json_response(await end_other_sessions(request))

    app = app_of(storage, sessions, end, end_others)
    async with served(app) as first, TestClient(first.server, cookie_jar=CookieJar(unsafe=True)) as second:
        await first.get("/login?user=ada")
        clock.advance(1)
        await second.get("/login?user=ada")
        newest, _ = await (await first.get("/sessions")).json()
        assert await (await first.get(f"/end?key={newest}")).json() is True
        assert await (await first.get(f"/end?key={newest}")).json() is False
        await second.get("/login?user=ada")
        assert await (await first.get("/end_others")).json() == 1
        assert len(await (await first.get("/sessions")).json()) == 1


async def test_parallel_requests_lose_nothing(client: Client) -> None:
    await client.get("/put?start=1")
    await asyncio.gather(*(client.get(f"/put?key{number}=1") for number in range(50)))
    found = await shown(client)
    assert sum(key.startswith("key") for key in found) == 50


async def test_logout_is_final(storage: Spy) -> None:
    looked, out = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        session = await get_session(request)
        looked.set()
        await out.wait()
        session["late"] = True
        return web.Response()

    async with served(app_of(storage, slow)) as client:
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


@pytest.mark.parametrize("path", ["show", "put?b=1", "fresh?b=1"])
async def test_an_unavailable_storage(
    client: Client, storage: Spy, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get("/put?a=1")
    storage.down = True
    response = await client.get(f"/{path}")
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in response.headers
    assert (await client.get("/untouched")).status == 200
    storage.down = False
    assert await shown(client) == {"a": "1"}
    assert id_of(client) not in caplog.text


async def test_an_unavailable_storage_raises(storage: Spy) -> None:
    async with served(app_of(storage, unavailable="raise")) as client:
        await client.get("/put?a=1")
        storage.down = True
        assert (await client.get("/show")).status == 500


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


async def test_an_encoder_and_ids_of_ones_own(storage: Spy) -> None:
    numbers = iter(range(100))
    options: dict[str, Any] = {
        "key_factory": lambda: f"number {next(numbers)}".replace(" ", "-"),
        "encoder": lambda data: json.dumps(data)[::-1],
        "decoder": lambda text: json.loads(text[::-1]),
    }
    async with served(app_of(storage, **options)) as client:
        await client.get("/put?a=1")
        assert id_of(client) == "number-0"
        assert await storage.delegate.read_bytes("number-0") == b'}"1" :"a"{'
        assert await shown(client) == {"a": "1"}
        await client.get("/login?user=ada")
        assert id_of(client) == "number-1"
        bring(client, "x" * 5000)
        assert await shown(client) == {}


async def test_a_websocket_saves(storage: Spy) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["talks"] = session.get("talks", 0) + 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            session[message.data] = True
            await save(request)
            await socket.send_str("saved")
        session["closed"] = True
        return socket

    async with served(app_of(storage, talk, install=setup)) as client:
        async with client.ws_connect("/talk") as socket:  # whose answer brings the cookie
            await socket.send_str("word")
            assert (await socket.receive(10)).type is WSMsgType.TEXT
            assert await shown(client) == {"talks": 1, "word": True}
        async with asyncio.timeout(10):
            while "closed" not in await shown(client):
                await asyncio.sleep(0)


async def test_a_stream_saves(storage: Spy) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["before"] = True
        response = web.StreamResponse()
        await response.prepare(request)
        session["after"] = True
        await response.write(b"streamed")
        return response

    async with served(app_of(storage, stream, install=setup)) as client:
        assert await (await client.get("/stream")).read() == b"streamed"  # whose end comes after the save
        assert await shown(client) == {"before": True, "after": True}


async def test_a_session_shows_nothing_and_takes_no_id(storage: Spy) -> None:
    session = await AioHttpStorage(storage).new_session()
    session["secret"] = "word"
    assert "word" not in repr(session)
    with pytest.raises(UnsupportedOperation):
        session.set_new_identity("chosen")


async def test_only_its_own_sessions(storage: Spy) -> None:
    foreign = aiohttp_session.Session(None, data=None, new=True)
    with pytest.raises(InvalidArgumentType, match="not one that"):
        await AioHttpStorage(storage).save_session(None, None, foreign)  # type: ignore[arg-type]


def test_event_loops(url: str) -> None:
    storage = SqlSessionStorage(url)
    ids = []

    async def visit() -> None:
        async with served(app_of(storage)) as client:
            if ids:
                bring(client, ids[0])
            await client.get(f"/put?key{len(ids)}=1")
            ids.append(id_of(client) or ids[0])
            assert len(await shown(client)) == len(ids)

    for _ in range(3):
        asyncio.run(visit())
    asyncio.run(storage.aclose())


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "a b"},
        {"cookie_name": "__Host-s", "domain": "service.test"},
        {"samesite": "None", "secure": False},
        {"samesite": "some"},
        {"path": "no-slash"},
        {"httponly": False},
        {"max_age": 0},
        {"absolute_timeout": -1},
        {"unavailable": "ignore"},
    ],
)
def test_bad_arguments(storage: Spy, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        AioHttpStorage(storage, **options)


@pytest.mark.parametrize(
    "options", [{"max_age": "1"}, {"key_factory": "x"}, {"encoder": None}, {"decoder": 1}]
)
def test_arguments_of_the_wrong_type(storage: Spy, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentType):
        AioHttpStorage(storage, **options)


def test_not_a_storage() -> None:
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        AioHttpStorage({})  # type: ignore[arg-type]


async def test_helpers_need_the_storage(storage: Spy) -> None:
    async def lost(request: web.Request) -> web.Response:
        with pytest.raises(InvalidArgument, match="AioHttpStorage"):
            await save(request)
        return web.Response(text="refused")

    app = web.Application()
    app.router.add_get("/lost", lost)
    async with served(app) as client:
        assert await (await client.get("/lost")).text() == "refused"
