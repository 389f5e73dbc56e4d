"""Flask: what requests may rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import flask
import pytest
from flask import jsonify, session
from flask.testing import FlaskClient

from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import ManualClock

from ..support import Spy
from .app import (
    app_of,
    id_of,
    shown,
)


def test_a_session_is_kept(client: FlaskClient) -> None:
    assert shown(client) == {}
    client.get("/put?a=1")
    client.get("/put?b=2")
    assert shown(client) == {"a": "1", "b": "2"}


def test_no_call_without_a_look(client: FlaskClient, storage: Spy) -> None:
    client.get("/put?a=1")
    storage.calls.clear()
    response = client.get("/untouched")
    assert storage.calls == []
    assert not {"Set-Cookie", "Vary", "Cache-Control"} & set(response.headers.keys())


def test_no_call_without_a_cookie(client: FlaskClient, storage: Spy) -> None:
    response = client.get("/show")
    assert storage.calls == []
    assert "Set-Cookie" not in response.headers


def test_reading_writes_nothing(client: FlaskClient, storage: Spy) -> None:
    client.get("/put?a=1")
    storage.calls.clear()
    response = client.get("/show")
    assert storage.calls == ["read"]
    assert "Set-Cookie" not in response.headers
    assert response.headers["Vary"] == "Cookie"
    assert response.headers["Cache-Control"] == "private"


def test_a_nested_change_is_noticed(client: FlaskClient) -> None:
    for _ in range(3):
        client.get("/nest")
    assert shown(client) == {"list": [1, 1, 1]}


def test_the_cookie_is_safe(client: FlaskClient) -> None:
    response = client.get("/put?a=1")
    parts = set(response.headers["Set-Cookie"].lower().split("; "))
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert not any(part.startswith(("secure", "max-age", "domain")) for part in parts)
    assert response.headers["Cache-Control"] == "no-store"


def test_a_cookie_by_https_is_secure(client: FlaskClient) -> None:
    response = client.get("/put?a=1", base_url="https://localhost")
    assert "secure" in response.headers["Set-Cookie"].split("; ")


def test_the_applications_own_settings(storage: Spy) -> None:
    config = {
        "SESSION_COOKIE_NAME": "own",
        "SESSION_COOKIE_DOMAIN": "service.test",
        "APPLICATION_ROOT": "/put",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_PARTITIONED": True,
    }
    response = app_of(storage, config=config).test_client().get("/put?a=1")
    parts = response.headers["Set-Cookie"].lower().split("; ")
    assert parts[0].startswith("own=")
    assert {"path=/put", "domain=service.test", "secure", "samesite=strict", "partitioned"} <= set(parts)
    response = app_of(storage, config=config, cookie_name="mine", path="/").test_client().get("/put?a=1")
    parts = response.headers["Set-Cookie"].lower().split("; ")
    assert parts[0].startswith("mine=")
    assert "path=/" in parts


@pytest.mark.parametrize("presented", ["A" * 43, "x", "eyJhIjoxfQ.Zw.sig"])
def test_an_unknown_id_is_not_adopted(client: FlaskClient, presented: str) -> None:
    client.set_cookie("session", presented)
    assert "Max-Age=0" in client.get("/show").headers["Set-Cookie"]
    client.set_cookie("session", presented)
    client.get("/put?a=1")
    assert id_of(client) not in ("", presented)


def test_permanent_sessions(storage: Spy, clock: ManualClock) -> None:
    client = app_of(storage, config={"PERMANENT_SESSION_LIFETIME": 100}).test_client()
    assert "Max-Age" not in client.get("/put?a=1").headers["Set-Cookie"]
    assert "Max-Age=100" in client.get("/permanent?value=1").headers["Set-Cookie"]
    for _ in range(4):
        clock.advance(60)
        response = client.get("/show")
        assert response.get_json() == {"a": "1", "_permanent": True}
        assert "Max-Age=100" in response.headers["Set-Cookie"]
    assert "Max-Age" not in client.get("/permanent?value=0").headers["Set-Cookie"]
    clock.advance(101)
    assert shown(client) == {}


def test_permanence_alone_is_no_session(client: FlaskClient, storage: Spy) -> None:
    assert "Set-Cookie" not in client.get("/permanent?value=1").headers
    assert storage.calls == []


def test_an_absolute_timeout(storage: Spy, clock: ManualClock) -> None:
    client = app_of(storage, max_age=100, absolute_timeout=150).test_client()
    client.get("/put?a=1")
    clock.advance(90)
    assert shown(client) == {"a": "1"}
    clock.advance(61)
    assert shown(client) == {}


async def test_a_login_changes_the_id(client: FlaskClient, storage: Spy) -> None:
    client.get("/put?a=1")
    old = id_of(client)
    client.get("/login?user=ada")
    assert id_of(client) not in ("", old)
    assert run(storage.delegate.info(old)) is None
    assert shown(client) == {"a": "1"}


def test_a_new_id_on_demand(client: FlaskClient, storage: Spy) -> None:
    client.get("/put?a=1")
    old = id_of(client)
    client.get("/regenerate")
    assert id_of(client) not in ("", old)
    assert run(storage.delegate.info(old)) is None


def test_logout(client: FlaskClient, storage: Spy) -> None:
    client.get("/put?a=1")
    client.get("/permanent?value=1")
    old = id_of(client)
    assert "Max-Age=0" in client.get("/logout").headers["Set-Cookie"]
    assert run(storage.delegate.info(old)) is None
    client.set_cookie("session", old)
    assert shown(client) == {}


def test_redirects_and_errors_save(client: FlaskClient) -> None:
    client.get("/leave")
    assert client.get("/refuse").status_code == 404
    assert shown(client) == {"left": True, "refused": True}


def test_types_that_flask_tags(storage: Spy) -> None:
    def tagged() -> Any:
        session["tuple"] = (1, b"bytes")
        flask.flash("hello", "greeting")
        return "tagged"

    def untagged() -> Any:
        assert session["tuple"] == (1, b"bytes")
        return jsonify(flask.get_flashed_messages(with_categories=True))

    client = app_of(storage, tagged, untagged).test_client()
    client.get("/tagged")
    storage.calls.clear()
    assert client.get("/untagged").get_json() == [["greeting", "hello"]]
    client.get("/untagged")
    assert storage.calls == ["read", "write", "read"]


def test_an_async_view(storage: Spy) -> None:
    async def later() -> Any:
        await asyncio.sleep(0)
        session["later"] = session.get("later", 0) + 1
        return jsonify(dict(session))

    pytest.importorskip("asgiref")
    client = app_of(storage, later).test_client()
    client.get("/later")
    assert client.get("/later").get_json() == {"later": 2}
