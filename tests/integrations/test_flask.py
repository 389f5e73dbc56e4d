"""Flask over our storages."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from flask import Flask, abort, jsonify, redirect, request, session
from flask.testing import FlaskClient

from sqlsessions import InvalidArgument, InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations._portal import run
from sqlsessions.integrations.flask import (
    SqlSessionInterface,
    end_other_sessions,
    end_session,
    list_sessions,
    save,
)
from sqlsessions.testing import ManualClock

from .support import Spy

DAY = 24 * 60 * 60
Handler = Callable[[], Any]


def show() -> Any:
    return jsonify(dict(session))


def put() -> Any:
    session.update(request.args)
    return "put"


def untouched() -> Any:
    return "untouched"


def nest() -> Any:
    session.setdefault("list", []).append(1)
    return "nested"


def login() -> Any:
    session.subject = request.args["user"]  # type: ignore[attr-defined]
    return "in"


def logout() -> Any:
    session.clear()
    return "out"


def permanent() -> Any:
    session.permanent = request.args["value"] == "1"
    return "kept"


def regenerate() -> Any:
    session.regenerate()  # type: ignore[attr-defined]
    return "regenerated"


def leave() -> Any:
    session["left"] = True
    return redirect("/show")


def refuse() -> Any:
    session["refused"] = True
    abort(404)


HANDLERS = [show, put, untouched, nest, login, logout, permanent, regenerate, leave, refuse]


def app_of(storage: Any, *more: Handler, config: dict[str, Any] | None = None, **options: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(config or {})
    SqlSessionInterface(storage, **options).init_app(app)
    for handler in [*HANDLERS, *more]:
        app.add_url_rule(f"/{handler.__name__}", view_func=handler)
    return app


@pytest.fixture
def storage(storage: Spy) -> Iterator[Spy]:
    """The storage of other tests, closed in the event loop that Flask's requests use it from."""
    yield storage
    run(storage.aclose())


@pytest.fixture
def client(storage: Spy) -> FlaskClient:
    return app_of(storage).test_client()


def shown(client: FlaskClient) -> Any:
    response = client.get("/show")
    assert response.status_code == 200
    return response.get_json()


def id_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    return cookie.value if cookie else ""


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
