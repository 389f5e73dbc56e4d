"""aiohttp-session: what requests may rely on."""

from __future__ import annotations

import pytest
from aiohttp import CookieJar, web
from aiohttp_session import get_session

from sqlsessions.integrations.aiohttp import end_other_sessions, end_session, list_sessions
from sqlsessions.testing import ManualClock

from ..support import Spy
from .app import (
    DAY,
    Client,
    app_of,
    bring,
    id_of,
    served,
    session_of,
    shown,
)

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


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
    async with served(app) as first, Client(first.server, cookie_jar=CookieJar(unsafe=True)) as second:
        await first.get("/login?user=ada")
        clock.advance(1)
        await second.get("/login?user=ada")
        newest, _ = await (await first.get("/sessions")).json()
        assert await (await first.get(f"/end?key={newest}")).json() is True
        assert await (await first.get(f"/end?key={newest}")).json() is False
        await second.get("/login?user=ada")
        assert await (await first.get("/end_others")).json() == 1
        assert len(await (await first.get("/sessions")).json()) == 1
