"""What is Django's own about changes: its session store, logins, and errors."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import SynchronousOnlyOperation
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path

from sqlsessions import InvalidArgument, InvalidArgumentType
from sqlsessions.integrations._django_changing import USER
from sqlsessions.integrations.django import SessionStore
from sqlsessions.testing import SpyStorage

from ..django_project.browsers import begun, browser, in_use, key_of  # noqa: F401 (a fixture)
from .routes import Data, visit


def test_it_changes_what_is_stored_by_then() -> None:
    _, key = begun()
    one, other = SessionStore(key), SessionStore(key)
    assert one["first"] == other["first"] == 1
    assert one.change(visit) == 1
    assert other.change(visit) == 2
    assert other.load() == {"first": 1, "visits": 2}
    assert one.change(dict) == {"first": 1, "visits": 2}
    assert one["visits"] == 2


def test_what_was_changed_before_is_saved_first() -> None:
    _, key = begun()
    session = SessionStore(key)
    session["second"] = 2
    del session["first"]
    assert session.change(dict) == {"second": 2}
    session["third"] = 3
    session.save()
    assert SessionStore(key).load() == {"second": 2, "third": 3}


def test_a_visitor_gets_a_session_with_a_cookie() -> None:
    client = browser()
    with override_settings(ROOT_URLCONF=(path("visit", lambda request: request.session.change(_counted)),)):
        client.get("/visit")
        client.get("/visit")
    assert SessionStore(key_of(client)).load() == {"visits": 2}


def _counted(data: Data) -> HttpResponse:
    return HttpResponse(str(visit(data)))


def test_a_session_that_it_empties_ends() -> None:
    client, key = begun()
    with override_settings(ROOT_URLCONF=(path("clear", lambda request: request.session.change(_cleared)),)):
        client.get("/clear")
    assert client.cookies["sessionid"]["max-age"] == 0
    assert not SessionStore().exists(key)


def _cleared(data: Data) -> HttpResponse:
    data.clear()
    return HttpResponse()


def test_an_ended_session_is_interrupted() -> None:
    for change_first in (False, True):
        _, key = begun()
        session = SessionStore(key)
        session["first"] = 2 if change_first else session["first"]
        session.modified = change_first
        SessionStore(key).delete(key)
        with pytest.raises(SessionInterrupted):
            session.change(visit)


def test_it_cannot_log_in() -> None:
    _, key = begun()
    for session in (SessionStore(key), SessionStore()):
        with pytest.raises(InvalidArgument, match="log in"):
            session.change(lambda data: data.update({USER: "7"}))
    assert SessionStore(key).load() == {"first": 1}


def test_an_async_function_is_refused_where_nothing_awaits() -> None:
    async def count(data: Data) -> int:
        return visit(data)

    _, key = begun()
    with pytest.raises(InvalidArgumentType, match="async"):
        SessionStore(key).change(count)
    assert SessionStore(key).load() == {"first": 1}


async def test_it_blocks_no_event_loop(storage: SpyStorage) -> None:
    client = AsyncClient()
    await client.get("/aput/first")
    key = client.cookies["sessionid"].value
    with pytest.raises(SynchronousOnlyOperation, match=r"await session\.achange"):
        SessionStore(key).change(visit)
    sessions = [SessionStore(key) for _ in range(10)]
    assert sorted(await asyncio.gather(*(session.achange(visit) for session in sessions))) == [*range(1, 11)]
