"""What responses say of the session to browsers and caches, in every framework that leaves it to us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory
from sqlsessions.integrations._web.cookies import cookie_values
from sqlsessions.integrations._web.headers import caching_headers
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.aiohttp import AioHttpStorage
from sqlsessions.integrations.flask import SqlSessionInterface as FlaskInterface
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.quart import SqlSessionInterface as QuartInterface
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.testing import Browser, HttpRequest, HttpResponse, ManualClock, Send, SpyStorage

from .services import SERVICES, Service, flask_, litestar, quart_, starlette
from .support import SplitCookies

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
every_framework = pytest.mark.parametrize(
    "service", SERVICES, ids=lambda service: service.__name__.strip("_")
)
DAY = 24 * 60 * 60


@pytest.fixture
async def storage(clock: ManualClock) -> AsyncIterator[SpyStorage]:
    storage = SpyStorage(SessionStorageMemory(clock=clock))
    yield storage
    await asyncio.to_thread(run, storage.aclose())


async def get(send: Send, path: str, headers: dict[str, str] | None = None, **query: Any) -> HttpResponse:
    sent = {"Host": "service.test"} | (headers or {})
    response = await send(HttpRequest("GET", path, urlencode(query), sent))
    assert response.status == 200
    return response


@pytest.mark.parametrize("service", [starlette, litestar, quart_], ids=lambda service: service.__name__)
async def test_a_cookie_may_be_in_any_of_several_headers(service: Service, storage: SpyStorage) -> None:
    """As HTTP/2 sends them; WSGI servers and aiohttp's join them."""
    async with service(storage) as send:
        [cookie] = (await get(send, "/cached", control="no-store", a=1)).all("Set-Cookie")
        storage.calls.clear()
        headers = SplitCookies(Host="service.test", Cookie=cookie.partition(";")[0])
        response = await send(HttpRequest("GET", "/cached", "control=no-store&a=1", headers))
        assert response.all("Set-Cookie") == []
        assert storage.calls == ["read"]


@every_framework
async def test_a_response_that_sets_the_cookie_is_private(
    service: Service, storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(storage) as send:
        with caplog.at_level(logging.DEBUG, "sqlsessions"):
            response = await get(send, "/cached", control="public, max-age=60, s-maxage=600", a=1)
        assert response.all("Cache-Control") == ["private, max-age=60"]
        assert response.all("Vary") == ["Cookie"]
        assert "Cache-Control is made private" in caplog.text
        [cookie] = response.all("Set-Cookie")
        response = await get(send, "/cached", {"Cookie": cookie.partition(";")[0]}, control="public", a=1)
        assert response.all("Cache-Control") == ["public"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("max-age=60", "private, max-age=60"),
        ("Public,S-MaxAge=5 , max-age=60", "private, max-age=60"),
        ("no-cache", "private, no-cache"),
        ('private="Set-Cookie, X", max-age=60', "private, max-age=60"),
        ('no-cache="a, public", s-maxage="5"', 'private, no-cache="a, public"'),
        ("private, max-age=60", None),
        ("no-store", None),
        ("private, s-maxage=5", "private"),
        ("no-store, public", "private, no-store"),
    ],
)
def test_a_cache_control_is_made_private(given: str, made: str | None) -> None:
    headers = dict(caching_headers(("Cookie",), vary="*", cache_control=given, gives_id=True))
    assert headers == ({} if made is None else {"Cache-Control": made})


@every_framework
@pytest.mark.parametrize(
    "header", [("X-Forwarded-Proto", "https"), ("Forwarded", 'for=192.0.2.1;Proto="https", for=10.0.0.1')]
)
async def test_a_proxy_that_is_not_trusted_is_warned_of_once(
    service: Service, storage: SpyStorage, header: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with service(storage) as send:
        await get(send, "/cached", {"X-Forwarded-Proto": "http"}, control="no-store", a=1)
        assert "a proxy says" not in caplog.text
        for number in range(3):
            response = await get(send, "/cached", dict([header]), control="no-store", a=number)
            assert "secure" not in response.all("Set-Cookie")[0].lower()
    assert caplog.text.count("a proxy says that requests come by https") == 1


class KeepingBrowser(Browser):
    """A browser that drops its cookie when the cookie ends."""

    def __init__(self, send: Send, clock: ManualClock) -> None:
        super().__init__(send, "session")
        self.clock = clock
        self.until = 0.0

    async def send(self, method: str, path: str, *, hold: bool = False, **query: Any) -> HttpResponse:
        if self.clock() >= self.until:
            self.id = None
        response = await super().send(method, path, hold=hold, **query)
        if (cookie := self.cookie(response)) is not None:
            self.until = self.clock() + int(cookie.attributes["max-age"])
        return response


@every_framework
async def test_the_cookie_lasts_while_sessions_are_written_after_each_response(
    service: Service, storage: SpyStorage, clock: ManualClock
) -> None:
    async with service(storage, ttl=14 * DAY) as send:
        browser = KeepingBrowser(send, clock)
        await browser.get("/cached", control="no-store", a=1)
        id = browser.has_id()
        for day in range(40):
            clock.advance(DAY)
            await browser.get("/stream", day=day)
            assert browser.id == id
            storage.calls.clear()
            for number in range(3):
                await browser.get("/stream", number=f"{day}.{number}")
            assert storage.calls == ["read", "write"] * 3  # no write for the cookie's sake


async def test_a_cookie_is_renewed_for_a_session_that_looks_do_not_extend(
    storage: SpyStorage, clock: ManualClock
) -> None:
    async with flask_(storage, ttl=14 * DAY, SESSION_REFRESH_EACH_REQUEST=False) as send:
        browser = KeepingBrowser(send, clock)
        await browser.get("/cached", control="no-store", a=1)
        id = browser.has_id()
        for day in range(40):
            clock.advance(DAY)
            await browser.get("/stream", day=day)
            assert browser.id == id
        storage.calls.clear()
        await browser.get("/stream", day=39)
        assert storage.writes == []


def names(storage: ManagedSessionStorage, **options: Any) -> dict[str, str]:
    """The name of the cookie in each framework, with the options of Starlette."""
    secure = options.get("https_only")
    others = {name: value for name, value in options.items() if name in ("path", "domain")}
    name = options.get("session_cookie")
    flask = {"SESSION_COOKIE_NAME": "session", "PERMANENT_SESSION_LIFETIME": DAY}
    made = AioHttpStorage(storage, cookie_name=name, secure=secure, **others)
    assert made.cookie_name == made.manager.cookie.name
    return {
        "starlette": SessionMiddleware(None, storage, **options).cookie.name,  # type: ignore[arg-type]
        "litestar": SessionConfig(storage, key=name, secure=secure, **others).manager.cookie.name,  # type: ignore[arg-type]
        "aiohttp": made.cookie_name,
        "flask": FlaskInterface(storage, cookie_name=name, secure=secure, **others)
        .manager_of(flask)
        .cookie.name,
        "quart": QuartInterface(storage, cookie_name=name, secure=secure, **others)
        .manager_of(flask)
        .cookie.name,
    }


def test_a_cookie_that_is_always_secure_is_the_hosts_own(storage: SpyStorage) -> None:
    for name, found in names(storage, https_only=True).items():
        assert found == ("__Host-AIOHTTP_SESSION" if name == "aiohttp" else "__Host-session")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"https_only": False},
        {"https_only": True, "path": "/here"},
        {"https_only": True, "domain": "service.test"},
        {"https_only": True, "session_cookie": "own"},
    ],
    ids=str,
)
def test_any_other_cookie_keeps_its_name(storage: SpyStorage, options: dict[str, Any]) -> None:
    for name, found in names(storage, **options).items():
        usual = "AIOHTTP_SESSION" if name == "aiohttp" else "session"
        assert found == options.get("session_cookie", usual)


@pytest.mark.parametrize("interface", [FlaskInterface, QuartInterface])
def test_settings_of_the_application_do_not_rename_the_cookie(interface: Any, storage: SpyStorage) -> None:
    config = {
        "SESSION_COOKIE_NAME": "session",
        "SESSION_COOKIE_SECURE": True,
        "PERMANENT_SESSION_LIFETIME": DAY,
    }
    assert interface(storage).manager_of(config).cookie.name == "session"
    config["SESSION_COOKIE_NAME"] = "own"
    assert interface(storage, secure=True).manager_of(config).cookie.name == "own"


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        (["a=1; b=2", "a=3"], ["1", "3"]),
        (["a=1; a=2;a=3 ;\ta=4"], ["1", "2", "3", "4"]),
        (['a="1"; a="; a=""'], ["1", '"', ""]),
        (["a; aa=1; =a; A=2"], []),
        (["\xa0a=1; \u2003a=2; a\x0b=3"], []),  # which would let a cookie pass for a __Host- one
        (["a=1=2"], ["1=2"]),
    ],
)
def test_the_values_of_a_cookie(headers: list[str], values: list[str]) -> None:
    assert cookie_values(headers, "a") == values
