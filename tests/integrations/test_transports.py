"""Session ids as bearer tokens: which of several a request presents, and what its response says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionStorageMemory
from sqlsessions.integrations._web.cookies import Cookie, parse_id
from sqlsessions.integrations._web.transports import Bearer, Transports, bearer_values
from sqlsessions.integrations.aiohttp import AioHttpStorage
from sqlsessions.integrations.flask import SqlSessionInterface as FlaskInterface
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.quart import SqlSessionInterface as QuartInterface
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.testing import Browser, HttpRequest, ManualClock, SpyStorage, asgi
from sqlsessions.testing._integration.bearers import HEADER, Client

from .aiohttp import app as aiohttp_app
from .starlette.app import app_of, talk

ID, OTHER = "i" * 43, "o" * 43
BOTH: list[Cookie | Bearer] = [Cookie(), Bearer()]


class SentTwice(dict[str, str]):
    """Headers of a request that has two of the name Authorization."""

    def items(self) -> Any:
        return [*super().items(), ("Authorization", f"Bearer {OTHER}")]


@pytest.fixture
def memory(clock: ManualClock) -> SpyStorage:
    return SpyStorage(SessionStorageMemory(clock=clock))


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ([], None),
        (["Basic abc"], None),
        (["BearerToken abc"], None),
        (["Bearer abc"], ["abc"]),
        (["bEARER \t abc  "], ["abc"]),
        (["Bearer"], []),
        (["Bearer  "], []),
        (["Bearer abc def"], [""]),
        (["Bearer abc, Bearer def"], [""]),
        (["Bearer, Basic abc"], [""]),
        (["Bearer abc", "Bearer abc"], [""]),
        (["Basic abc", "Bearer def"], [""]),
    ],
)
def test_the_token_of_a_request(headers: list[str], values: list[str] | None) -> None:
    assert bearer_values(headers) == values


@pytest.mark.parametrize("first", ["cookie", "bearer"])
@pytest.mark.parametrize(
    ("cookie", "authorization", "by"),
    [
        (None, None, "cookie"),
        (None, "Bearer", "bearer"),
        (None, f"Bearer {ID}", "bearer"),
        (None, "Bearer malformed", "bearer"),
        (None, "Basic abc", "cookie"),
        (ID, None, "cookie"),
        (ID, "Bearer malformed", "cookie"),
        ("malformed", f"Bearer {ID}", "bearer"),
        ("malformed", "Bearer malformed", "bearer"),
        ("malformed", None, "cookie"),
        (ID, f"Bearer {OTHER}", "first"),
    ],
    ids=str,
)
def test_the_transport_of_a_request(
    first: str, cookie: str | None, authorization: str | None, by: str
) -> None:
    headers = {
        "Cookie": [] if cookie is None else [f"session={cookie}"],
        "Authorization": [] if authorization is None else [authorization],
    }
    transports = Transports(Bearer(), has_cookie=True, cookie_first=first == "cookie")
    values, bearer = transports.presented(headers.__getitem__, "session", parse_id)
    assert (bearer is None) == ((first if by == "first" else by) == "cookie")
    if bearer is None:
        assert values == ([] if cookie is None else [cookie])
    else:
        assert values == ([] if authorization == "Bearer" else [str(authorization).partition(" ")[2]])


async def test_of_two_tokens_none_counts(memory: SpyStorage) -> None:
    send = asgi(app_of(memory, transports=BOTH))
    client = Client(send, "session")
    await client.get("/put", a=1)
    headers = SentTwice(Host="service.test", Authorization=f"Bearer {client.id}")
    response = await send(HttpRequest("GET", "/show", headers=headers))
    assert response.json() == {}
    assert response.all(HEADER) == [""]


async def test_bearers_alone_have_no_cookie(memory: SpyStorage) -> None:
    send = asgi(app_of(memory, transports=[Bearer("X-Auth")]))
    browser = Browser(send, "session")
    response = await browser.get("/put", a=1)
    assert response.all("Vary") == ["Authorization"]
    assert browser.cookie(response) is None
    [id] = response.all("X-Auth")
    browser.id = id
    assert await browser.data() == {}
    client = Client(send, "session", id)
    assert await client.data() == {"a": "1"}


async def test_a_bearer_that_is_extended_keeps_its_id(memory: SpyStorage, clock: ManualClock) -> None:
    client = Client(asgi(app_of(memory, transports=BOTH, ttl=100)), "session")
    await client.get("/put", a=1)
    for _ in range(3):
        clock.advance(60)
        response = await client.get("/show")
        assert response.json() == {"a": "1"}
        assert response.all(HEADER) == []
        response = await client.get("/put", a=clock())
        assert response.all(HEADER) == []
        await client.get("/put", a=1)


def test_a_websocket_takes_a_bearer_and_gives_one(memory: SpyStorage) -> None:
    async def ids(request: Any) -> JSONResponse:
        return JSONResponse(dict(request.session))

    app = app_of(memory, ids, transports=BOTH)
    app.routes.append(WebSocketRoute("/talk", talk))
    with TestClient(app, base_url="https://service.test") as client:
        with client.websocket_connect(
            "wss://service.test/talk?early=1", headers={"Authorization": "Bearer"}
        ) as socket:
            given: dict[bytes, bytes] = dict(socket.extra_headers or ())
            assert b"set-cookie" not in given
            assert socket.receive_json() is None
        authorization = {"Authorization": f"Bearer {given[HEADER.lower().encode()].decode()}"}
        assert client.get("/put?a=2", headers=authorization).headers.get(HEADER) is None
        with client.websocket_connect("wss://service.test/talk", headers=authorization) as socket:
            assert socket.receive_json() == "2"
            assert HEADER.lower().encode() not in dict(socket.extra_headers or ())


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
async def test_a_session_that_replaces_a_bearers_is_given_to_it(memory: SpyStorage) -> None:
    app = aiohttp_app.app_of(memory, transports=BOTH)
    async with aiohttp_app.served(app) as client:
        async with client.get("/put?a=1", headers={"Authorization": "Bearer"}) as response:
            first = response.headers[HEADER]
        async with client.get("/fresh?b=2", headers={"Authorization": f"Bearer {first}"}) as response:
            assert "Set-Cookie" not in response.headers
            second = response.headers[HEADER]
        assert second != first
        assert await memory.delegate.info(first) is None
        async with client.get("/show", headers={"Authorization": f"Bearer {second}"}) as response:
            assert await response.json() == {"b": "2"}


DESCRIBED: list[Callable[..., Any]] = [
    lambda storage, **given: SessionMiddleware(None, storage, session_cookie="own", **given),  # type: ignore[arg-type]
    lambda storage, **given: SessionConfig(storage, domain="service.test", **given),
    lambda storage, **given: AioHttpStorage(storage, cookie_name="own", **given),
    lambda storage, **given: FlaskInterface(storage, secure=True, **given),
    lambda storage, **given: QuartInterface(storage, path="/here", **given),
]


@pytest.mark.parametrize("number", range(len(DESCRIBED)))
def test_a_cookie_is_described_once(memory: SpyStorage, number: int) -> None:
    DESCRIBED[number](memory)
    with pytest.raises(InvalidArgument, match="give the settings of the cookie to Cookie"):
        DESCRIBED[number](memory, transports=BOTH)


@pytest.mark.parametrize("given", [[], [Bearer(), Bearer("X-Other")], [Cookie(), Cookie("own")]], ids=len)
def test_there_is_one_transport_of_a_kind(memory: SpyStorage, given: list[Any]) -> None:
    with pytest.raises(InvalidArgument, match="a Cookie, a Bearer, or one of each"):
        SessionConfig(memory, transports=given)


def test_a_transport_is_of_a_known_kind(memory: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType, match="not 'bearer'"):
        SessionConfig(memory, transports=["bearer"])  # type: ignore[list-item]


@pytest.mark.parametrize("header", ["", "X Session", "Set-Cookie", "authorization"])
def test_the_header_is_one_of_its_own(header: str) -> None:
    with pytest.raises(InvalidArgument, match="a header of its own"):
        Bearer(header)


def test_what_a_cookie_leaves_unset_is_configured(memory: SpyStorage) -> None:
    config = {"SESSION_COOKIE_NAME": "configured", "SESSION_COOKIE_SECURE": True, "APPLICATION_ROOT": "/app"}
    cookie = FlaskInterface(memory, transports=BOTH).manager_of(config).cookie
    assert (cookie.name, cookie.secure, cookie.path) == ("configured", True, "/app")
    own = Cookie("own", path="/own", same_site="strict")
    cookie = FlaskInterface(memory, transports=[own, Bearer()]).manager_of(config).cookie
    assert (cookie.name, cookie.path, cookie.same_site) == ("own", "/own", "strict")


def test_what_a_cookie_sets_holds_even_if_it_is_what_is_so_unless_set(memory: SpyStorage) -> None:
    config = {
        "SESSION_COOKIE_NAME": "configured",
        "SESSION_COOKIE_PATH": "/app",
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    }
    own = Cookie("session", path="/", same_site="lax", partitioned=False)
    for interface in (FlaskInterface, QuartInterface):
        assert interface(memory, transports=[own, Bearer()]).manager_of(config).cookie == own == Cookie()


def test_a_cookie_that_is_always_secure_is_the_hosts_own() -> None:
    assert Cookie(secure=True).name == "__Host-session"
    assert Cookie(secure=True, path="/here").name == Cookie().name == "session"
