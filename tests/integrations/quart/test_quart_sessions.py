"""Quart: what requests may rely on."""

from __future__ import annotations

from typing import Any

import quart
from quart import jsonify, session
from quart.typing import TestClientProtocol as Client

from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    app_of,
    bring,
    id_of,
    shown,
)


async def test_a_handler_in_a_thread(storage: SpyStorage, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    for _ in range(3):
        response = await client.get("/plain")
    assert await response.get_json() == {"visits": 3}


async def test_the_applications_own_settings(storage: SpyStorage) -> None:
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


async def test_permanent_sessions(storage: SpyStorage, clock: ManualClock) -> None:
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


async def test_permanence_alone_is_no_session(client: Client, storage: SpyStorage) -> None:
    response = await client.get("/permanent?value=1")
    assert "Set-Cookie" not in response.headers
    assert storage.calls == []


async def test_reading_need_not_refresh(storage: SpyStorage, clock: ManualClock) -> None:
    config = {"PERMANENT_SESSION_LIFETIME": 100, "SESSION_REFRESH_EACH_REQUEST": False}
    client = app_of(storage, config=config).test_client()
    await client.get("/put?a=1")
    clock.advance(60)
    assert await shown(client) == {"a": "1"}
    clock.advance(60)
    assert await shown(client) == {}


async def test_a_logout_ends_a_permanent_session(client: Client, storage: SpyStorage) -> None:
    await client.get("/put?a=1")
    await client.get("/permanent?value=1")
    old = id_of(client)
    assert old
    assert "Max-Age=0" in (await client.get("/logout")).headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None
    bring(client, old)
    assert await shown(client) == {}


async def test_types_that_flask_tags(storage: SpyStorage) -> None:
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
