"""Flask: expiry, errors, and what else may happen."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask import Flask, session
from flask.testing import FlaskClient

from sqlsessions import InvalidArgument, InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.flask import (
    SqlSessionInterface,
    save,
)
from sqlsessions.testing import SpyStorage

from .app import (
    app_of,
    id_of,
    shown,
)


def test_a_stream_after_saving(storage: SpyStorage) -> None:
    def stream() -> Any:
        session["streams"] = True
        save()
        return flask.Response(iter(["a", "b"]))

    client = app_of(storage, stream).test_client()
    assert client.get("/stream").text == "ab"
    assert shown(client) == {"streams": True}


def test_an_unavailable_storage_raises(storage: SpyStorage) -> None:
    app = app_of(storage, unavailable="raise")
    app.register_error_handler(StorageUnavailable, lambda _error: ("down", 418))
    client = app.test_client()
    client.get("/put?a=1")
    storage.down = True
    assert client.get("/show").status_code == 418


def test_session_transactions(client: FlaskClient) -> None:
    """The test client's own way into a session."""
    with client.session_transaction() as own:
        own["a"] = 1
    assert shown(client) == {"a": 1}


@pytest.mark.parametrize(
    "options", [{"cookie_name": "a b"}, {"samesite": "None", "secure": False}, {"ttl": 0}]
)
def test_bad_arguments(storage: SpyStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        SqlSessionInterface(storage, **options)


def test_not_a_storage() -> None:
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        SqlSessionInterface({})  # type: ignore[arg-type]


def test_bad_configuration(storage: SpyStorage) -> None:
    with pytest.raises(InvalidArgument, match="HTTPONLY"):
        app_of(storage, config={"SESSION_COOKIE_HTTPONLY": False})


def test_helpers_need_the_interface() -> None:
    app = Flask(__name__)
    app.secret_key = "secret"
    with app.test_request_context("/"), pytest.raises(InvalidArgument, match="SqlSessionInterface"):
        save()


def test_a_logout_does_not_read_the_session(storage: SpyStorage) -> None:
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
