"""Quart: what requests may rely on."""

from __future__ import annotations

from typing import Any

import pytest
import quart
from quart import jsonify, request, session
from quart.typing import TestClientProtocol as Client

from sqlsessions.integrations.quart import end_other_sessions, end_session, list_sessions
from sqlsessions.testing import ManualClock

from ..support import Spy
from .app import (
    DAY,
    app_of,
    bring,
    id_of,
    shown,
)


async def test_a_session_is_kept(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    assert await shown(client) == {}
    await client.get("/put?a=1")
    await client.get("/put?b=2")
    assert await shown(client) == {"a": "1", "b": "2"}


async def test_no_call_without_a_look(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    response = await client.get("/untouched")
    assert storage.calls == []
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(response.headers.keys())


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


async def test_a_nested_change_is_noticed(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    for _ in range(3):
        await client.get("/nest")
    assert await shown(client) == {"list": [1, 1, 1]}


async def test_a_handler_in_a_thread(storage: Spy, lazy: bool) -> None:
    client = app_of(storage, lazy=lazy).test_client()
    for _ in range(3):
        response = await client.get("/plain")
    assert await response.get_json() == {"visits": 3}


async def test_the_cookie_is_safe(client: Client) -> None:
    response = await client.get("/put?a=1")
    parts = set(response.headers["Set-Cookie"].lower().split("; "))
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert not any(part.startswith(("secure", "max-age", "domain")) for part in parts)
    assert response.headers["Cache-Control"] == "no-store"
    response = await client.get("/put?a=2", scheme="https")
    assert "Set-Cookie" not in response.headers


async def test_a_cookie_by_https_is_secure(client: Client) -> None:
    response = await client.get("/put?a=1", scheme="https")
    assert "secure" in response.headers["Set-Cookie"].split("; ")


async def test_the_applications_own_settings(storage: Spy) -> None:
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


@pytest.mark.parametrize("presented", ["A" * 43, "x", "eyJhIjoxfQ.Zw.sig"])
async def test_an_unknown_id_is_not_adopted(client: Client, presented: str) -> None:
    bring(client, presented)
    response = await client.get("/show")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    bring(client, presented)
    response = await client.get("/put?a=1")
    assert not response.headers["Set-Cookie"].startswith((f"session={presented};", "session=null"))


async def test_permanent_sessions(storage: Spy, clock: ManualClock) -> None:
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


async def test_permanence_alone_is_no_session(client: Client, storage: Spy) -> None:
    response = await client.get("/permanent?value=1")
    assert "Set-Cookie" not in response.headers
    assert storage.calls == []


async def test_reading_need_not_refresh(storage: Spy, clock: ManualClock) -> None:
    config = {"PERMANENT_SESSION_LIFETIME": 100, "SESSION_REFRESH_EACH_REQUEST": False}
    client = app_of(storage, config=config).test_client()
    await client.get("/put?a=1")
    clock.advance(60)
    assert await shown(client) == {"a": "1"}
    clock.advance(60)
    assert await shown(client) == {}


async def test_an_expiry_of_its_own(storage: Spy, clock: ManualClock) -> None:
    async def remember() -> Any:
        session.set_expiry(300 * DAY)  # type: ignore[attr-defined]
        return "remembered"

    client = app_of(storage, remember).test_client()
    await client.get("/put?a=1")
    assert f"Max-Age={300 * DAY}" in (await client.get("/remember")).headers["Set-Cookie"]
    id = id_of(client)
    assert id
    clock.advance(299 * DAY)
    bring(client, id)
    assert await shown(client) == {"a": "1"}


async def test_a_login_changes_the_id(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/login?user=ada")
    assert id_of(client) != old
    assert await storage.delegate.info(old) is None
    assert await shown(client) == {"a": "1"}


async def test_a_new_id_on_demand(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    await client.get("/regenerate")
    assert id_of(client) != old
    assert await storage.delegate.info(old) is None


async def test_logout(client: Client, storage: Spy) -> None:
    await client.get("/put?a=1")
    await client.get("/permanent?value=1")
    old = id_of(client)
    assert old
    assert "Max-Age=0" in (await client.get("/logout")).headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None
    bring(client, old)
    assert await shown(client) == {}


async def test_redirects_and_errors_save(client: Client) -> None:
    await client.get("/leave")
    assert (await client.get("/refuse")).status_code == 404
    assert await shown(client) == {"left": True, "refused": True}


async def test_types_that_flask_tags(storage: Spy) -> None:
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


async def test_list_and_end_sessions(storage: Spy, clock: ManualClock) -> None:
    async def sessions() -> Any:
        return jsonify([info.key async for info in list_sessions()])

    async def end() -> Any:
        return jsonify(await end_session(request.args["key"]))

    async def end_others() -> Any:
        return jsonify(await end_other_sessions())

    app = app_of(storage, sessions, end, end_others)
    first, second = app.test_client(), app.test_client()
    await first.get("/login?user=ada")
    clock.advance(1)
    await second.get("/login?user=ada")
    newest, _ = await (await first.get("/sessions")).get_json()
    assert await (await first.get(f"/end?key={newest}")).get_json() is True
    assert await (await first.get(f"/end?key={newest}")).get_json() is False
    await second.get("/login?user=ada")
    assert await (await first.get("/end_others")).get_json() == 1
    assert len(await (await first.get("/sessions")).get_json()) == 1
