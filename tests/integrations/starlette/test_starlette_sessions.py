"""Starlette: what requests may rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sqlsessions import InvalidArgument, SqlSessionStorage
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.testing import ManualClock

from ..support import Spy
from .app import (
    DAY,
    Gate,
    app_of,
    client_of,
    cookie_of,
    slowly,
    untouched,
    writes,
)


async def test_a_session_is_kept(client: AsyncClient) -> None:
    assert (await client.get("/show")).json() == {}
    await client.get("/put?a=1")
    await client.get("/put?b=2")
    assert (await client.get("/show")).json() == {"a": "1", "b": "2"}


async def test_no_call_without_a_look(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/untouched")
    assert storage.calls == []
    assert "set-cookie" not in response.headers
    assert "vary" not in response.headers
    assert "cache-control" not in response.headers


async def test_no_call_without_a_cookie(client: AsyncClient, storage: Spy) -> None:
    response = await client.get("/show")
    assert storage.calls == []
    assert "set-cookie" not in response.headers


async def test_reading_writes_nothing(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/show")
    assert storage.calls == ["read"]
    assert "set-cookie" not in response.headers
    assert response.headers["vary"] == "Cookie"
    assert response.headers["cache-control"] == "private"


async def test_the_same_data_is_not_written_again(client: AsyncClient, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/put?a=1")
    assert storage.calls == ["read"]
    assert "set-cookie" not in response.headers


async def test_nested_changes_are_noticed(client: AsyncClient) -> None:
    await client.get("/start_list")
    await client.get("/nested")
    await client.get("/nested")
    assert (await client.get("/show")).json() == {"list": [1, 1]}


async def test_a_cookie_of_somebody_elses_making_is_not_adopted(client: AsyncClient, storage: Spy) -> None:
    for value in ("a" * 43, "short", "x" * 5000, "%00", '"quoted"'):
        response = await client.get("/show", headers={"cookie": f"session={value}"})
        assert "Max-Age=0" in cookie_of(response)
        assert writes(storage) == []
        response = await client.get("/put?a=1", headers={"cookie": f"session={value}"})
        given = cookie_of(response)[0].removeprefix("session=")
        assert len(given) == 43
        assert given != value
        assert await storage.info(given) is not None
        storage.calls.clear()
        client.cookies.clear()


async def test_a_cookie_of_a_session_that_ended_is_cleared(
    client: AsyncClient, storage: Spy, clock: ManualClock
) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    clock.advance(14 * DAY)
    response = await client.get("/show")
    assert response.json() == {}
    assert "Max-Age=0" in cookie_of(response)
    response = await client.get("/put?b=1", headers={"cookie": f"session={old}"})
    assert old not in response.headers["set-cookie"]


async def test_parallel_requests_lose_nothing(client: AsyncClient) -> None:
    await client.get("/put?start=1")
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(client.get(f"/put?key{n}=1") for n in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len((await client.get("/show")).json()) == 51


async def test_a_logout_is_final_for_slower_requests(storage: Spy) -> None:
    gate, client = slowly(storage)
    async with client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        response = await gate.during(client, "/logout")
        assert response.status_code == 200
        assert "set-cookie" not in response.headers
        assert await storage.info(old) is None
        assert [info async for info in storage.sessions()] == []
        assert (await client.get("/show", headers={"cookie": f"session={old}"})).json() == {}


async def test_a_logout_reaches_a_session_that_was_rotated_meanwhile(storage: Spy) -> None:
    async def slow_logout(request: Request) -> Response:
        request.session.get("a")
        gate.arrived.set()
        await gate.go.wait()
        request.session.clear()
        return PlainTextResponse("out")

    gate = Gate()
    async with client_of(app_of(storage, slow_logout)) as client, asyncio.timeout(30):
        await client.get("/put?a=1")
        slow = asyncio.create_task(client.get("/slow_logout"))
        await gate.arrived.wait()
        await client.get("/regenerate")
        gate.go.set()
        await slow
        assert [info async for info in storage.sessions()] == []


async def test_a_slower_request_does_not_undo_a_login(storage: Spy) -> None:
    gate, client = slowly(storage)
    async with client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        response = await gate.during(client, "/login?user=ann")
        assert "set-cookie" not in response.headers  # which would take away the one that the login gave
        assert client.cookies["session"] != old
        # Nor does a request that only now comes with the old cookie.
        response = await client.get("/show", headers={"cookie": f"session={old}"})
        assert response.json() == {}
        assert "set-cookie" not in response.headers
        assert (await client.get("/show")).json() == {"a": "1"}


@pytest.mark.parametrize("path", ["/login?user=ann", "/regenerate", "/clear?b=2"])
async def test_rotation(client: AsyncClient, storage: Spy, path: str) -> None:
    await client.get("/put?a=1")
    old = client.cookies["session"]
    await client.get(path)
    new = client.cookies["session"]
    assert new != old
    assert await storage.info(old) is None
    assert (await client.get("/show")).json() == ({"b": "2"} if "clear" in path else {"a": "1"})
    info = await storage.info(new)
    assert info is not None
    assert info.subject == ("ann" if "login" in path else None)


async def test_a_rotation_loses_no_change_made_meanwhile(storage: Spy) -> None:
    async def slow(request: Request) -> Response:
        request.session["mine"] = 1
        request.session.subject = "ann"  # type: ignore[attr-defined]
        gate.arrived.set()
        await gate.go.wait()
        return PlainTextResponse("slow")

    gate = Gate()
    async with client_of(app_of(storage, slow)) as client:
        await client.get("/put?a=1")
        await gate.during(client, "/put?b=2")
        assert (await client.get("/show")).json() == {"a": "1", "b": "2", "mine": 1}


async def test_login_without_rotation(storage: Spy) -> None:
    async with client_of(app_of(storage, rotate_on_login=False)) as client:
        await client.get("/put?a=1")
        old = client.cookies["session"]
        await client.get("/login?user=ann")
        assert client.cookies["session"] == old
        info = await storage.info(old)
        assert info is not None
        assert info.subject == "ann"


async def test_logout(client: AsyncClient, storage: Spy) -> None:
    await client.get("/login?user=ann")
    old = client.cookies["session"]
    response = await client.get("/logout")
    assert "Max-Age=0" in cookie_of(response)
    assert "session" not in client.cookies
    assert await storage.info(old) is None


async def test_idle_timeout_is_extended_by_use(client: AsyncClient, storage: Spy, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    clock.advance(14 * DAY * 0.04)
    assert "set-cookie" not in (await client.get("/show")).headers
    assert writes(storage) == []
    clock.advance(14 * DAY * 0.02)
    response = await client.get("/show")
    assert writes(storage) == ["touch"]
    assert f"Max-Age={14 * DAY}" in cookie_of(response)
    storage.calls.clear()
    clock.advance(14 * DAY * 0.9)
    await client.get("/untouched")
    assert storage.calls == []
    clock.advance(14 * DAY * 0.09)
    assert (await client.get("/show")).json() == {"a": "1"}


async def test_absolute_timeout(storage: Spy, clock: ManualClock) -> None:
    async with client_of(app_of(storage, max_age=DAY, absolute_timeout=2 * DAY)) as client:
        await client.get("/put?a=1")
        for _ in range(3):
            clock.advance(0.6 * DAY)
            assert (await client.get("/show")).json() == {"a": "1"}
        storage.calls.clear()
        assert (await client.get("/show")).json() == {"a": "1"}
        assert storage.calls == ["read"]  # there is nothing left to extend
        clock.advance(0.2 * DAY)
        assert (await client.get("/show")).json() == {}


async def test_remember_me(client: AsyncClient, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    assert f"Max-Age={90 * DAY}" in cookie_of(await client.get("/remember?days=90"))
    clock.advance(80 * DAY)
    assert f"Max-Age={90 * DAY}" in cookie_of(await client.get("/put?b=2"))
    clock.advance(80 * DAY)
    assert (await client.get("/show")).json() == {"a": "1", "b": "2"}


async def test_a_session_until_the_browser_is_closed(client: AsyncClient, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    assert "Max-Age" not in (await client.get("/forget")).headers.get("set-cookie", "")
    clock.advance(1800)
    response = await client.get("/show")
    assert response.json() == {"a": "1"}
    assert "set-cookie" not in response.headers
    clock.advance(3600)
    assert (await client.get("/show")).json() == {}


async def test_without_max_age_the_storage_decides(storage: Spy, clock: ManualClock) -> None:
    async with client_of(app_of(storage, max_age=None)) as client:
        assert "Max-Age" not in (await client.get("/put?a=1")).headers["set-cookie"]
        clock.advance(13 * DAY)
        assert (await client.get("/show")).json() == {"a": "1"}


@pytest.mark.parametrize(
    ("options", "scheme", "flags", "missing"),
    [
        (
            {},
            "http",
            ["httponly", "samesite=lax", "path=/", f"Max-Age={14 * DAY}"],
            ["secure", "partitioned"],
        ),
        ({}, "https", ["httponly", "samesite=lax", "secure"], ["partitioned"]),
        ({"https_only": True}, "http", ["secure"], []),
        ({"https_only": False}, "https", [], ["secure"]),
        ({"same_site": "none"}, "http", ["samesite=none", "secure"], []),
        ({"same_site": "strict"}, "http", ["samesite=strict"], ["secure"]),
        ({"domain": "service.test", "path": "/put"}, "http", ["domain=service.test", "path=/put"], []),
        ({"partitioned": True}, "https", ["partitioned", "secure"], []),
        ({"session_cookie": "__Host-id"}, "http", ["secure", "path=/"], []),
    ],
    ids=str,
)
async def test_cookie(
    storage: Spy, options: dict[str, Any], scheme: str, flags: list[str], missing: list[str]
) -> None:
    async with client_of(app_of(storage, **options), scheme) as client:
        parts = cookie_of(await client.get("/put?a=1"))
    assert parts[0].startswith(f"{options.get('session_cookie', 'session')}=")
    assert set(flags) <= set(parts)
    assert not set(missing) & set(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session_cookie": "a b"}, "name"),
        ({"session_cookie": ""}, "name"),
        ({"session_cookie": "__Host-id", "domain": "service.test"}, "__Host-"),
        ({"session_cookie": "__Host-id", "path": "/app"}, "__Host-"),
        ({"session_cookie": "__Host-id", "https_only": False}, "Secure"),
        ({"session_cookie": "__Secure-id", "https_only": False}, "Secure"),
        ({"same_site": "none", "https_only": False}, "Secure"),
        ({"same_site": "Lax"}, "same_site"),
        ({"partitioned": True, "https_only": False}, "Secure"),
        ({"path": "app"}, "path"),
        ({"path": "/a; secure"}, "path"),
        ({"domain": "a\r\nb"}, "domain"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": -1}, "max_age"),
        ({"absolute_timeout": 0}, "absolute_timeout"),
        ({"unavailable": "500"}, "unavailable"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), **options)  # type: ignore[arg-type]
