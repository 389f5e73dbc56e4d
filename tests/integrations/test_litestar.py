"""Litestar's `SessionConfig`: what it does for requests and WebSockets, and what it never does."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar import Response as LitestarResponse
from litestar.di import NamedDependency, Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Stream
from litestar.security.session_auth import SessionAuth
from litestar.status_codes import HTTP_401_UNAUTHORIZED
from litestar.testing import AsyncTestClient, TestClient
from litestar.types import Empty

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage, StorageUnavailable
from sqlsessions.integrations.litestar import (
    Session,
    SessionConfig,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    save,
)
from sqlsessions.testing import ManualClock

from .support import Spy

Req = Request[Any, Any, Any]
LIMIT = 20  # seconds, for what must not hang


@get("/untouched")
async def untouched() -> str:
    return "untouched"


@get("/read")
async def read(request: Req) -> dict[str, Any]:
    assert isinstance(request.session, Session)
    return dict(request.session)


@post("/write")
async def write(request: Req) -> None:
    request.session.update(await request.json())


@post("/nested")
async def nested(request: Req) -> None:
    request.session["list"].append(1)


@post("/login")
async def login(request: Req) -> None:
    session, user = await load(request), request.query_params["user"]
    session.subject = user
    session["user"] = user


@post("/logout")
async def logout(request: Req) -> None:
    request.clear_session()


@post("/set")
async def set_session(request: Req) -> None:
    request.set_session(await request.json())


@get("/subject")
async def subject(request: Req) -> dict[str, Any]:
    return {"subject": (await load(request)).subject}


@get("/sessions")
async def sessions(request: Req) -> list[str]:
    return [info.key async for info in list_sessions(request)]


@post("/end")
async def end(request: Req) -> bool:
    return await end_session(request, request.query_params["key"])


@post("/end-others")
async def end_others(request: Req) -> int:
    return await end_other_sessions(request)


HANDLERS = [untouched, read, write, nested, login, logout, set_session, subject, sessions, end, end_others]


def app_over(storage: Spy, *handlers: Any, exception_handlers: Any = None, **options: Any) -> Litestar:
    return Litestar(
        [*HANDLERS, *handlers],
        middleware=[SessionConfig(storage, **options).middleware],
        exception_handlers=exception_handlers,
        logging_config=None,  # which would take caplog's handler away
    )


def concurrent(app: Litestar, cookies: Any = None) -> AsyncClient:
    """A client whose requests run at once, in one event loop, unlike those of `AsyncTestClient`."""
    return AsyncClient(transport=ASGITransport(app), base_url="http://service.local", cookies=cookies)


@pytest.fixture
async def client(storage: Spy) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(app_over(storage)) as client:
        yield client


def cookie_of(response: Response) -> str | None:
    """The value of the session cookie that a response sets."""
    return response.cookies.get("session")


async def test_nothing_is_done_for_who_never_looks(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    for _ in range(2):
        response = await client.get("/untouched")
        assert response.text == "untouched"
        assert not {"set-cookie", "vary", "cache-control"} & set(response.headers)
        assert storage.calls == []
        client.cookies.set("session", "x" * 43)


async def test_an_empty_session_is_not_stored(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    response = await client.get("/read")
    assert response.json() == {}
    assert "set-cookie" not in response.headers
    assert response.headers["vary"] == "Cookie"
    assert response.headers["cache-control"] == "private"
    assert storage.calls == []


async def test_data_survives_and_is_read_once(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    response = await client.post("/write", json={"a": 1})
    cookie = response.headers["set-cookie"]
    assert {"httponly", "samesite=lax", "path=/", "Max-Age=1209600"} <= set(cookie.split("; "))
    assert "secure" not in cookie
    assert response.headers["cache-control"] == "no-store"
    assert storage.calls == ["write"]
    storage.calls.clear()
    response = await client.get("/read")
    assert response.json() == {"a": 1}
    assert "set-cookie" not in response.headers
    assert storage.calls == ["read"]


async def test_only_changes_are_written(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    await client.post("/write", json={"list": []})
    storage.calls.clear()
    await client.post("/write", json={"list": []})
    assert storage.calls == ["read"]
    await client.post("/nested")
    assert storage.calls == ["read", "read", "write"]
    assert (await client.get("/read")).json() == {"list": [1]}


async def test_the_cookie_is_secure_by_https(storage: Spy) -> None:
    async with AsyncTestClient(app_over(storage), base_url="https://service.local") as client:
        response = await client.post("/write", json={"a": 1})
    assert "secure" in response.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("value", ["A" * 43, "short", "null", "' OR 1=1 --"])
async def test_foreign_ids_are_never_adopted(
    client: AsyncTestClient[Litestar], storage: Spy, value: str
) -> None:
    client.cookies.set("session", value)
    response = await client.get("/read")
    assert response.json() == {}
    assert "Max-Age=0" in response.headers["set-cookie"]
    client.cookies.set("session", value)
    response = await client.post("/write", json={"a": 1})
    assert cookie_of(response) not in (None, value)
    assert "write" in storage.calls


async def test_login_changes_the_id(client: AsyncTestClient[Litestar]) -> None:
    before = cookie_of(await client.post("/write", json={"a": 1}))
    after = cookie_of(await client.post("/login", params={"user": "alice"}))
    assert after not in (None, before)
    assert (await client.get("/read")).json() == {"a": 1, "user": "alice"}
    client.cookies.set("session", str(before))
    assert (await client.get("/read")).json() == {}


async def test_rotation_can_be_left_to_the_application(storage: Spy) -> None:
    async with AsyncTestClient(app_over(storage, rotate_on_login=False)) as client:
        before = cookie_of(await client.post("/write", json={"a": 1}))
        await client.post("/login", params={"user": "alice"})
        assert client.cookies["session"] == before


@pytest.mark.parametrize("value", [Empty, None, {}])
async def test_logout(storage: Spy, value: Any) -> None:
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


async def test_logout_without_a_session_asks_the_storage_nothing(
    client: AsyncTestClient[Litestar], storage: Spy
) -> None:
    assert "set-cookie" not in (await client.post("/logout")).headers
    assert storage.calls == []


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


async def test_set_session_without_a_session(client: AsyncTestClient[Litestar]) -> None:
    await client.post("/set", json={"b": 2})
    assert (await client.get("/read")).json() == {"b": 2}


async def test_set_session_takes_models(storage: Spy) -> None:
    @dataclass
    class Basket:
        items: list[str]

    @post("/basket")
    async def basket(request: Req) -> None:
        request.set_session(Basket(["apple"]))

    async with AsyncTestClient(app_over(storage, basket)) as client:
        await client.post("/basket")
        assert (await client.get("/read")).json() == {"items": ["apple"]}


async def test_set_session_takes_a_session(storage: Spy) -> None:
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


async def test_the_innermost_middleware_counts(storage: Spy) -> None:
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


async def test_session_auth(storage: Spy) -> None:
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
        response = await client.get("/me")
        assert response.status_code == HTTP_401_UNAUTHORIZED
        assert "Max-Age=0" in response.headers["set-cookie"]


@pytest.mark.parametrize("to_thread", [True, False])
async def test_sync_handlers_read_where_they_run(storage: Spy, to_thread: bool) -> None:
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
    storage: Spy, caplog: pytest.LogCaptureFixture
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


async def test_dependencies_in_tasks_of_their_own(storage: Spy) -> None:
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
    async with AsyncTestClient(app_over(storage, both, eager=False), raise_server_exceptions=False) as client:
        await client.post("/write", json={"a": 1})
        response = await client.get("/both")
        assert response.status_code == 500
    async with AsyncTestClient(app_over(storage, eager=True)) as client:
        await client.post("/write", json={"a": 1})
        storage.calls.clear()
        await client.get("/untouched")
        assert storage.calls == ["read"]


async def test_routes_without_sessions(storage: Spy) -> None:
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


async def test_helpers_need_the_middleware(storage: Spy) -> None:
    async with AsyncTestClient(Litestar([subject], debug=False)) as client:
        assert (await client.get("/subject")).status_code == 500


async def test_unavailable_when_read(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    await client.post("/write", json={"a": 1})
    storage.down = True
    for path in ("/read", "/subject"):
        response = await client.get(path)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "set-cookie" not in response.headers
    assert (await client.get("/untouched")).status_code == 200
    storage.down = False
    assert (await client.get("/read")).json() == {"a": 1}


async def test_unavailable_when_written(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    storage.down = True
    response = await client.post("/write", json={"a": 1})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "set-cookie" not in response.headers


async def test_unavailable_when_ended(client: AsyncTestClient[Litestar], storage: Spy) -> None:
    await client.post("/write", json={"a": 1})
    storage.down = True
    response = await client.post("/logout")
    assert response.status_code == 503
    assert "set-cookie" not in response.headers


async def test_an_application_may_answer_without_its_session(storage: Spy) -> None:
    @get("/lenient")
    async def lenient(request: Req) -> str:
        try:
            await load(request)
        except StorageUnavailable:
            return "without"
        return "with"

    async with AsyncTestClient(app_over(storage, lenient)) as client:
        await client.post("/write", json={"a": 1})
        storage.down = True
        response = await client.get("/lenient")
        assert (response.status_code, response.text) == (200, "without")


def handled(_request: Req, _error: Exception) -> LitestarResponse[str]:
    return LitestarResponse("handled", status_code=599)


async def test_unavailable_for_the_application_to_handle(storage: Spy) -> None:
    handlers = {StorageUnavailable: handled}
    app = app_over(storage, unavailable="raise", exception_handlers=handlers)
    async with AsyncTestClient(app) as client:
        storage.down = True
        assert (await client.post("/write", json={"a": 1})).status_code == 599
        assert storage.calls == ["write"]
        storage.down = False
        await client.post("/write", json={"a": 1})
        storage.down = True
        assert (await client.get("/read")).status_code == 599
        assert (await client.post("/write", json={"a": 2})).status_code == 599
        assert (await client.post("/logout")).status_code == 599
        storage.down = False
        assert (await client.get("/read")).json() == {"a": 1}


class Plain:
    """A serializer that raises what the standard library does."""

    dumps = staticmethod(lambda value: json.dumps(value).encode())
    loads = staticmethod(json.loads)


@pytest.mark.parametrize(("serializer", "error"), [(None, InvalidArgumentType), (Plain(), TypeError)])
async def test_data_that_cannot_be_kept(storage: Spy, serializer: Any, error: type[Exception]) -> None:
    @post("/bad")
    async def bad(request: Req) -> None:
        request.session["bad"] = object()

    app = app_over(storage, bad, serializer=serializer, exception_handlers={error: handled})
    async with AsyncTestClient(app) as client:
        await client.post("/write", json={"a": 1})
        assert (await client.post("/bad")).status_code == 599
        assert (await client.get("/read")).json() == {"a": 1}


async def test_a_rotated_id_is_told_though_the_write_failed(storage: Spy, monkeypatch: Any) -> None:
    """Else the browser would be left with an id that is no more."""
    async with AsyncTestClient(app_over(storage)) as client:
        before = cookie_of(await client.post("/write", json={"a": 1}))

        async def fail(*_arguments: Any, **_options: Any) -> Any:
            raise StorageUnavailable("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(storage, "write_bytes", fail)
            response = await client.post("/login", params={"user": "alice"})
        assert response.status_code == 503
        assert cookie_of(response) not in (None, before)
        assert (await client.get("/read")).json() == {"a": 1}


async def test_a_response_cache_keeps_no_cookie(storage: Spy) -> None:
    @get("/cached", cache=60)
    async def cached(request: Req) -> str:
        request.session["a"] = 1
        return "cached"

    app = app_over(storage, cached)
    async with concurrent(app) as first, concurrent(app) as second:
        assert cookie_of(await first.get("/cached"))
        response = await second.get("/cached")
        assert response.text == "cached"
        assert "set-cookie" not in response.headers


async def test_an_undecodable_session_is_empty(
    client: AsyncTestClient[Litestar], storage: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    await client.post("/write", json={"a": 1})
    await storage.write_bytes(client.cookies["session"], b"\xff secret")
    with caplog.at_level(logging.WARNING, "sqlsessions"):
        assert (await client.get("/read")).json() == {}
    assert "cannot be decoded" in caplog.text
    assert "secret" not in caplog.text
    assert client.cookies["session"] not in caplog.text


async def test_timeouts(storage: Spy, clock: ManualClock) -> None:
    async with AsyncTestClient(app_over(storage, max_age=100, absolute_timeout=250)) as client:
        await client.post("/write", json={"a": 1})
        for _ in range(3):
            clock.advance(80)
            assert (await client.get("/read")).json() == {"a": 1}
        clock.advance(10)
        assert (await client.get("/read")).json() == {}


async def test_remember_me(storage: Spy, clock: ManualClock) -> None:
    @post("/remember")
    async def remember(request: Req) -> None:
        session = await load(request)
        session["a"] = 1
        session.set_expiry(1000)

    async with AsyncTestClient(app_over(storage, remember, max_age=100)) as client:
        assert "Max-Age=1000" in (await client.post("/remember")).headers["set-cookie"]
        clock.advance(900)
        assert (await client.get("/read")).json() == {"a": 1}
        clock.advance(900)
        assert (await client.get("/read")).json() == {"a": 1}


async def test_my_sessions(storage: Spy) -> None:
    app = app_over(storage)
    async with concurrent(app) as one, concurrent(app) as two, concurrent(app) as three:
        for client, user in ((one, "alice"), (two, "alice"), (three, "bob")):
            await client.post("/login", params={"user": user})
        keys = (await one.get("/sessions")).json()
        assert len(keys) == 2
        [bobs] = (await three.get("/sessions")).json()
        assert (await one.post("/end", params={"key": bobs})).json() is False
        assert (await three.get("/read")).json() == {"user": "bob"}
        assert (await one.post("/end-others")).json() == 1
        assert (await two.get("/read")).json() == {}
        [own] = (await one.get("/sessions")).json()
        assert (await one.post("/end", params={"key": own})).json() is True
        assert (await one.get("/read")).json() == {}


async def test_parallel_changes_all_survive(storage: Spy) -> None:
    together = asyncio.Barrier(50)

    @post("/add")
    async def add(request: Req) -> None:
        key = request.query_params["key"]
        await load(request)
        await together.wait()
        request.session[key] = key

    async with asyncio.timeout(LIMIT * 2), concurrent(app_over(storage, add)) as client:
        await client.post("/write", json={"a": 1})
        answers = await asyncio.gather(*(client.post("/add", params={"key": f"k{i}"}) for i in range(50)))
        assert {answer.status_code for answer in answers} == {201}
        found = (await client.get("/read")).json()
    assert found == {"a": 1} | {f"k{i}": f"k{i}" for i in range(50)}


async def test_logout_is_final_against_a_slower_request(storage: Spy) -> None:
    loaded, ended = asyncio.Event(), asyncio.Event()

    @post("/slow")
    async def slow(request: Req) -> None:
        await load(request)
        loaded.set()
        await ended.wait()
        if request.query_params["how"] == "replace":
            request.set_session({"other": 1})
        else:
            request.session["late"] = 1

    app = app_over(storage, slow)
    for how in ("change", "replace"):
        loaded.clear()
        ended.clear()
        async with asyncio.timeout(LIMIT), concurrent(app) as client:
            await client.post("/login", params={"user": "alice"})
            left_over = dict(client.cookies)
            request = asyncio.create_task(client.post("/slow", params={"how": how}))
            await loaded.wait()
            await client.post("/logout")
            ended.set()
            response = await request
            assert cookie_of(response) is None
        async with concurrent(app, left_over) as client:
            assert (await client.get("/read")).json() == {}


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            message = json.loads(await socket.receive_text())
            if message == "save":
                await save(socket)
            elif message is not None:
                socket.session.update(message)
            await socket.send_json(dict(socket.session))
    except WebSocketDisconnect:
        pass


@websocket("/greet")
async def greet(socket: WebSocket[Any, Any, Any]) -> None:
    socket.session["greeted"] = True
    await socket.accept()
    await socket.close()


@websocket("/refused")
async def refused(socket: WebSocket[Any, Any, Any]) -> None:
    socket.session["refused"] = True
    await socket.close(code=4003)


def test_websockets_read_and_write(storage: Spy) -> None:
    app = app_over(storage, chat)
    with TestClient(app) as client:
        client.post("/write", json={"a": 1})
        with client.websocket_connect("/chat") as socket:
            storage.calls.clear()
            socket.send_text("null")
            assert socket.receive_json(timeout=LIMIT) == {"a": 1}
            socket.send_text('{"b": 2}')
            assert socket.receive_json(timeout=LIMIT) == {"a": 1, "b": 2}
            assert storage.calls == ["read"]
            socket.send_text('"save"')
            socket.receive_json(timeout=LIMIT)
            assert client.get("/read").json() == {"a": 1, "b": 2}
            client.post("/write", json={"http": True})
            socket.send_text('{"c": 3}')
            socket.receive_json(timeout=LIMIT)
    with TestClient(app, cookies=client.cookies) as client:
        assert client.get("/read").json() == {"a": 1, "b": 2, "c": 3, "http": True}


async def test_the_last_write_of_a_websocket_outlasts_its_connection(storage: Spy) -> None:
    """A server may cancel what serves a connection that is closed."""
    app = app_over(storage, chat)
    async with concurrent(app) as client:
        await client.post("/write", json={"a": 1})
        cookie = f"session={client.cookies['session']}".encode()
        serving = anyio.CancelScope()
        told = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": '{"b": 2}'},
            {"type": "websocket.disconnect", "code": 1001},
        ]

        async def receive() -> Any:
            if len(told) == 1:
                serving.cancel()
            return told.pop(0)

        async def send(_message: Any) -> None:
            pass

        scope: Any = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "scheme": "ws",
            "path": "/chat",
            "raw_path": b"/chat",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"cookie", cookie)],
            "subprotocols": [],
        }
        async with asyncio.timeout(LIMIT):
            with serving:
                await app(scope, receive, send)
        assert serving.cancel_called
        assert (await client.get("/read")).json() == {"a": 1, "b": 2}


def test_a_websocket_s_new_session_goes_with_its_handshake(storage: Spy) -> None:
    with TestClient(app_over(storage, greet)) as client:
        with client.websocket_connect("/greet") as socket:
            headers = dict(socket.extra_headers or [])
        client.cookies.set("session", headers[b"set-cookie"].decode().partition("=")[2].partition(";")[0])
        assert client.get("/read").json() == {"greeted": True}


def test_a_websocket_that_is_refused_is_saved(storage: Spy) -> None:
    with TestClient(app_over(storage, refused)) as client:
        client.post("/write", json={"a": 1})
        with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/refused"):
            pass
        assert error.value.code == 4003
        assert client.get("/read").json() == {"a": 1, "refused": True}


def test_a_websocket_while_the_storage_is_unavailable(storage: Spy) -> None:
    with TestClient(app_over(storage, chat)) as client:
        client.post("/write", json={"a": 1})
        with client.websocket_connect("/chat") as socket:
            storage.down = True
            socket.send_text("null")
            with pytest.raises(WebSocketDisconnect):
                socket.receive_json(timeout=LIMIT)
    with TestClient(app_over(storage, greet)) as client:
        with pytest.raises(WebSocketDisconnect) as error, client.websocket_connect("/greet"):
            pass
        assert error.value.code == 1013


def test_every_request_may_have_its_own_event_loop(url: str) -> None:
    """As with a `TestClient` that is not entered."""
    app = app_over(Spy(SqlSessionStorage(url)))
    client = TestClient(app)
    client.post("/write", json={"a": 1})
    assert client.get("/read").json() == {"a": 1}
    client.post("/logout")
    assert client.get("/read").json() == {}


def test_the_test_client_s_session_data(storage: Spy) -> None:
    config = SessionConfig(storage)
    app = Litestar([read, write], middleware=[config.middleware])
    with TestClient(app, session_config=config) as client:
        client.set_session_data({"a": 1})
        assert client.get("/read").json() == {"a": 1}
        client.post("/write", json={"b": 2})
        assert client.get_session_data() == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"unavailable": "500"},
        {"max_age": 0},
        {"key": "a b"},
        {"key": "__Host-session", "domain": "service.local"},
        {"samesite": "none", "secure": False},
    ],
)
def test_refused_settings(storage: Spy, options: Any) -> None:
    with pytest.raises(InvalidArgument):
        SessionConfig(storage, **options)


def test_refused_types(storage: Spy) -> None:
    with pytest.raises(InvalidArgumentType):
        SessionConfig("sqlite:///sessions.db")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType):
        SessionConfig(storage, serializer=json.dumps)  # type: ignore[arg-type]
