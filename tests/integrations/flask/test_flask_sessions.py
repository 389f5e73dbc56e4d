"""Flask: what requests may rely on."""

from __future__ import annotations

import asyncio
from typing import Any

import flask
import pytest
from flask import jsonify, session
from flask.testing import FlaskClient

from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    app_of,
    id_of,
    shown,
)


def test_the_applications_own_settings(storage: SpyStorage) -> None:
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


def test_permanent_sessions(storage: SpyStorage, clock: ManualClock) -> None:
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


def test_permanence_alone_is_no_session(client: FlaskClient, storage: SpyStorage) -> None:
    assert "Set-Cookie" not in client.get("/permanent?value=1").headers
    assert storage.calls == []


def test_a_logout_ends_a_permanent_session(client: FlaskClient, storage: SpyStorage) -> None:
    client.get("/put?a=1")
    client.get("/permanent?value=1")
    old = id_of(client)
    assert "Max-Age=0" in client.get("/logout").headers["Set-Cookie"]
    assert run(storage.delegate.info(old)) is None
    client.set_cookie("session", old)
    assert shown(client) == {}


def test_types_that_flask_tags(storage: SpyStorage) -> None:
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


def test_an_async_view(storage: SpyStorage) -> None:
    async def later() -> Any:
        await asyncio.sleep(0)
        session["later"] = session.get("later", 0) + 1
        return jsonify(dict(session))

    pytest.importorskip("asgiref")
    client = app_of(storage, later).test_client()
    client.get("/later")
    assert client.get("/later").get_json() == {"later": 2}
