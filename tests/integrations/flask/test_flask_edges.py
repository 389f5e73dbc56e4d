"""Flask: expiry, errors, and what else may happen."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from flask import Flask, jsonify, redirect, request, session
from flask.testing import FlaskClient

from sqlsessions import InvalidArgument, InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.flask import (
    SqlSessionInterface,
    end_other_sessions,
    end_session,
    list_sessions,
    save,
)
from sqlsessions.testing import ManualClock

from ..support import Spy
from .app import (
    app_of,
    id_of,
    shown,
)


def test_a_stream_after_saving(storage: Spy) -> None:
    def stream() -> Any:
        session["streams"] = True
        save()
        return flask.Response(iter(["a", "b"]))

    client = app_of(storage, stream).test_client()
    assert client.get("/stream").text == "ab"
    assert shown(client) == {"streams": True}


def test_list_and_end_sessions(storage: Spy, clock: ManualClock) -> None:
    def sessions() -> Any:
        return jsonify([info.key for info in list_sessions()])

    def end() -> Any:
        return jsonify(end_session(request.args["key"]))

    def end_others() -> Any:
        return jsonify(end_other_sessions())

    app = app_of(storage, sessions, end, end_others)
    first, second = app.test_client(), app.test_client()
    first.get("/login?user=ada")
    clock.advance(1)
    second.get("/login?user=ada")
    newest, _ = first.get("/sessions").get_json()
    assert first.get(f"/end?key={newest}").get_json() is True
    assert first.get(f"/end?key={newest}").get_json() is False
    second.get("/login?user=ada")
    assert first.get("/end_others").get_json() == 1
    assert len(first.get("/sessions").get_json()) == 1


def test_parallel_requests_lose_nothing(storage: Spy) -> None:
    app = app_of(storage)
    client = app.test_client()
    client.get("/put?start=1")
    id = id_of(client)
    together = threading.Barrier(50, timeout=30)

    def request_one(number: int) -> int:
        own = app.test_client()
        own.set_cookie("session", id)
        together.wait()
        return own.get(f"/put?key{number}=1").status_code

    with ThreadPoolExecutor(50) as threads:
        assert set(threads.map(request_one, range(50))) == {200}
    assert sum(key.startswith("key") for key in shown(client)) == 50


def test_logout_is_final(storage: Spy) -> None:
    looked, out = threading.Event(), threading.Event()

    def slow() -> Any:
        session["late"] = True
        looked.set()
        assert out.wait(10)
        return "slow"

    app = app_of(storage, slow)
    client, other = app.test_client(), app.test_client()
    client.get("/put?a=1")
    old = id_of(client)
    other.set_cookie("session", old)
    with ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(other.get, "/slow")
        assert looked.wait(10)
        client.get("/logout")
        out.set()
        assert "Set-Cookie" not in under_way.result(10).headers
    assert run(storage.delegate.info(old)) is None
    assert shown(other) == {}


@pytest.mark.parametrize("path", ["show", "put?b=1"])
def test_an_unavailable_storage(client: FlaskClient, storage: Spy, path: str) -> None:
    client.get("/put?a=1")
    storage.down = True
    response = client.get(f"/{path}")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "Set-Cookie" not in response.headers
    assert client.get("/untouched").status_code == 200
    storage.down = False
    assert shown(client) == {"a": "1"}


def test_a_write_that_fails(storage: Spy) -> None:
    def lose() -> Any:
        session["b"] = 2
        storage.down = True
        return redirect("/show")

    client = app_of(storage, lose).test_client()
    client.get("/put?a=1")
    response = client.get("/lose")
    assert response.status_code == 503
    assert "Location" not in response.headers
    assert "unavailable" in response.text


def test_an_unavailable_storage_raises(storage: Spy) -> None:
    app = app_of(storage, unavailable="raise")
    app.register_error_handler(StorageUnavailable, lambda _error: ("down", 418))
    client = app.test_client()
    client.get("/put?a=1")
    storage.down = True
    assert client.get("/show").status_code == 418


def test_undecodable_data_is_an_empty_session(
    client: FlaskClient, storage: Spy, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/put?a=1")
    run(storage.delegate.write_bytes(id_of(client), b"\xff not text"))
    with caplog.at_level(logging.WARNING, "sqlsessions"):
        assert shown(client) == {}
    assert "cannot be decoded" in caplog.text


def test_session_transactions(client: FlaskClient) -> None:
    """The test client's own way into a session."""
    with client.session_transaction() as own:
        own["a"] = 1
    assert shown(client) == {"a": 1}


@pytest.mark.parametrize(
    "options", [{"cookie_name": "a b"}, {"samesite": "None", "secure": False}, {"max_age": 0}]
)
def test_bad_arguments(storage: Spy, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SqlSessionInterface(storage, **options)


def test_not_a_storage() -> None:
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        SqlSessionInterface({})  # type: ignore[arg-type]


def test_bad_configuration(storage: Spy) -> None:
    with pytest.raises(InvalidArgument, match="HTTPONLY"):
        app_of(storage, config={"SESSION_COOKIE_HTTPONLY": False})


def test_helpers_need_the_interface() -> None:
    app = Flask(__name__)
    app.secret_key = "secret"
    with app.test_request_context("/"), pytest.raises(InvalidArgument, match="SqlSessionInterface"):
        save()


def test_a_logout_does_not_read_the_session(storage: Spy) -> None:
    def invalidate() -> str:
        session.invalidate()  # type: ignore[attr-defined]
        session.permanent = False
        return "out"

    client = app_of(storage, invalidate).test_client()
    client.get("/put?a=1")
    old = id_of(client)
    storage.calls.clear()
    client.get("/invalidate")
    assert storage.calls == ["invalidate"]
    assert id_of(client) == ""
    assert run(storage.info(old)) is None
