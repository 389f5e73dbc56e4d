"""Starlette: what requests may rely on."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import AsyncClient

from sqlsessions import InvalidArgument, SqlSessionStorage
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    DAY,
    app_of,
    client_of,
    cookie_of,
    untouched,
)


async def test_idle_timeout_is_extended_by_use(
    client: AsyncClient, storage: SpyStorage, clock: ManualClock
) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    clock.advance(14 * DAY * 0.04)
    assert "set-cookie" not in (await client.get("/show")).headers
    assert storage.writes == []
    clock.advance(14 * DAY * 0.02)
    response = await client.get("/show")
    assert storage.writes == ["touch"]
    assert f"Max-Age={14 * DAY}" in cookie_of(response)
    storage.calls.clear()
    clock.advance(14 * DAY * 0.9)
    await client.get("/untouched")
    assert storage.calls == []
    clock.advance(14 * DAY * 0.09)
    assert (await client.get("/show")).json() == {"a": "1"}


async def test_absolute_timeout(storage: SpyStorage, clock: ManualClock) -> None:
    async with client_of(app_of(storage, ttl=DAY, absolute_timeout=2 * DAY)) as client:
        await client.get("/put?a=1")
        for _ in range(3):
            clock.advance(0.6 * DAY)
            assert (await client.get("/show")).json() == {"a": "1"}
        storage.calls.clear()
        assert (await client.get("/show")).json() == {"a": "1"}
        assert storage.calls == ["read"]  # there is nothing left to extend
        clock.advance(0.2 * DAY)
        assert (await client.get("/show")).json() == {}


async def test_a_session_until_the_browser_is_closed(client: AsyncClient, clock: ManualClock) -> None:
    await client.get("/put?a=1")
    assert "Max-Age" not in (await client.get("/forget")).headers.get("set-cookie", "")
    clock.advance(1800)
    response = await client.get("/show")
    assert response.json() == {"a": "1"}
    assert "set-cookie" not in response.headers
    clock.advance(3600)
    assert (await client.get("/show")).json() == {}


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
        ({"https_only": True, "path": "/put"}, "http", ["secure"], []),
        ({"https_only": False}, "https", [], ["secure"]),
        ({"same_site": "none"}, "http", ["samesite=none", "secure"], []),
        ({"same_site": "strict"}, "http", ["samesite=strict"], ["secure"]),
        ({"same_site": "Strict"}, "http", ["samesite=strict"], ["secure"]),
        ({"domain": "service.test", "path": "/put"}, "http", ["domain=service.test", "path=/put"], []),
        ({"partitioned": True}, "https", ["partitioned", "secure"], []),
        ({"session_cookie": "__Host-id"}, "http", ["secure", "path=/"], []),
    ],
    ids=str,
)
async def test_cookie(
    storage: SpyStorage, options: dict[str, Any], scheme: str, flags: list[str], missing: list[str]
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
        ({"same_site": "some"}, "same_site"),
        ({"same_site": None}, "same_site"),
        ({"partitioned": True, "https_only": False}, "Secure"),
        ({"path": "app"}, "path"),
        ({"path": "/a; secure"}, "path"),
        ({"domain": "a\r\nb"}, "domain"),
        ({"ttl": float("nan")}, "ttl"),
        ({"absolute_timeout": 0}, "absolute_timeout"),
        ({"unavailable": "500"}, "unavailable"),
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SessionMiddleware(untouched, SqlSessionStorage("sqlite://"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [0, -1, -0.5])
async def test_a_session_without_time_ends_at_once(
    storage: SpyStorage, clock: ManualClock, ttl: float
) -> None:
    """As with Starlette's own middleware."""
    async with client_of(app_of(storage, ttl=ttl)) as client:
        response = await client.get("/put?a=1")
        assert "Max-Age=0" in cookie_of(response)
        id = cookie_of(response)[0].partition("=")[2]
        clock.advance(1)
        client.cookies.set("session", id, domain="service.test")
        assert (await client.get("/show")).json() == {}
