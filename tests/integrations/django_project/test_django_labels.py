"""Labels of Django's sessions, and what is kept of their clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.test import override_settings

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionInfo
from sqlsessions.integrations._django_changing import USER
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.django import (
    ClientRequest,
    SessionStore,
    address_and_user_agent,
    current_session,
)
from sqlsessions.testing import SpyStorage

from .browsers import abrowser, browser, in_use, key_of  # noqa: F401 (a fixture)

AGENT = "Tests/1 (" + "x" * 600 + ")"
KNOWN = {"address": "127.0.0.1", "user_agent": AGENT[:512]}


def all_of(storage: SpyStorage) -> list[SessionInfo]:
    async def found() -> list[SessionInfo]:
        return [info async for info in storage.delegate.sessions()]

    return run(found())


def labels(storage: SpyStorage) -> list[tuple[str, ...]]:
    return [info.labels for info in all_of(storage)]


def stored(*given: str, user: str | None = None) -> SessionStore:
    session = SessionStore()
    session["a"] = 1
    if user is not None:
        session[USER] = user
    session.labels = given
    session.save()
    return session


class TestLabels:
    def test_they_are_kept_and_move_with_a_new_key(self, storage: SpyStorage) -> None:
        session = stored("tenant:7", "sid:1", "sid:1")
        assert session.labels == ("sid:1", "tenant:7")
        assert labels(storage) == [("sid:1", "tenant:7")]
        before = session.session_key
        session.cycle_key()
        again = SessionStore(session.session_key)
        assert (again.labels, again.session_key != before) == (("sid:1", "tenant:7"), True)
        again.set_labels({"sid:2"})
        assert (again.labels, again.modified) == (("sid:2",), True)
        again.save()
        assert labels(storage) == [("sid:2",)]
        again.labels = ()
        again.save()
        assert labels(storage) == [()]

    def test_they_are_written_only_when_they_change(self, storage: SpyStorage) -> None:
        session = SessionStore(stored("a").session_key)
        session.labels = ["a"]
        assert not session.modified
        session.labels = ["b"]
        session.labels = ["a"]
        assert session.modified
        storage.calls.clear()
        session.save()
        assert storage.writes == []

    def test_they_outlast_other_writes(self, storage: SpyStorage) -> None:
        key = stored().session_key
        one, other = SessionStore(key), SessionStore(key)
        assert one["a"] == other["a"] == 1
        other["b"] = 1
        other.save()
        one.labels = ["a"]
        one.save()
        assert labels(storage) == [("a",)]
        assert dict(SessionStore(key).items()).keys() >= {"a", "b"}
        other.change(lambda data: data.update(c=1))
        assert labels(storage) == [("a",)]

    def test_they_go_with_the_session_and_the_user(self, storage: SpyStorage) -> None:
        session = stored("a", user="7")
        session.flush()
        assert (session.labels, labels(storage)) == ((), [])
        session = stored("a")
        session[USER] = "7"
        session.save()
        assert labels(storage) == [("a",)]
        session[USER] = "8"
        session.save()
        assert labels(storage) == [()]
        session = stored("a")
        session.clear()
        session["b"] = 1
        session.save()
        assert SessionStore(session.session_key).labels == ()

    def test_those_that_the_next_login_sets_stay(self, storage: SpyStorage) -> None:
        session = SessionStore(stored("a", user="7").session_key)
        session[USER] = "8"
        session.labels = ["b"]
        session.save()
        assert labels(storage) == [("b",)]

    def test_a_change_stores_them_first(self, storage: SpyStorage) -> None:
        session = SessionStore(stored().session_key)
        session.labels = ["a"]
        session.change(lambda data: data.update(b=1))
        assert labels(storage) == [("a",)]
        assert not session.modified or session.labels == ("a",)

    async def test_code_that_awaits(self, storage: SpyStorage) -> None:
        session = SessionStore()
        await session.aset("a", 1)
        await session.aset_labels(["a"])
        assert await session.alabels() == ("a",)
        await session.asave()
        again = SessionStore(session.session_key)
        assert await again.alabels() == ("a",)
        with pytest.raises(SynchronousOnlyOperation, match="alabels"):
            _ = again.labels
        with pytest.raises(SynchronousOnlyOperation, match="aset_labels"):
            again.labels = ["b"]
        assert await storage.revoke_label("a") == 1
        assert await SessionStore(session.session_key).alabels() == ()

    @pytest.mark.parametrize(("given", "error"), [([""], InvalidArgument), ("sid", InvalidArgumentType)])
    def test_what_is_no_label(self, given: Any, error: type[Exception], storage: SpyStorage) -> None:
        with pytest.raises(error):
            SessionStore().labels = given


def device(request: ClientRequest) -> dict[str, str] | None:
    agent = request.header("user-agent")
    return None if agent == "nothing" else {"device": f"{agent} at {request.address}"}


class TestClients:
    @pytest.fixture(
        params=[address_and_user_agent, "sqlsessions.integrations.django.address_and_user_agent"],
        ids=["function", "path"],
    )
    def kept(self, request: pytest.FixtureRequest, storage: SpyStorage, in_use: None) -> Iterator[None]:  # noqa: F811
        with override_settings(SQLSESSIONS={"storage": lambda: storage, "client_info": request.param}):
            yield

    def test_a_view_that_blocks(self, kept: None, storage: SpyStorage) -> None:
        client = browser()
        client.get("/login/7", headers={"User-Agent": AGENT})
        assert [info.client for info in all_of(storage)] == [KNOWN]
        client.get("/put/first", headers={"User-Agent": "Other/2"})
        [info] = all_of(storage)
        assert info.client == {"address": "127.0.0.1", "user_agent": "Other/2"}
        session = current_session(client.get("/read").wsgi_request)
        [listed] = session.list_sessions()
        assert (listed.client, listed.used_at) == (info.client, info.used_at)
        assert listed.used_at is not None

    async def test_a_view_that_awaits(self, kept: None, storage: SpyStorage) -> None:
        await abrowser().get("/aput/first", headers={"User-Agent": AGENT})
        assert [info.client async for info in storage.sessions()] == [KNOWN]

    def test_a_function_of_ones_own(self, storage: SpyStorage) -> None:
        with override_settings(SQLSESSIONS={"storage": lambda: storage, "client_info": device}):
            client = browser()
            client.get("/put/first", headers={"User-Agent": "Phone"})
            assert [info.client for info in all_of(storage)] == [{"device": "Phone at 127.0.0.1"}]
            client.get("/put/second", headers={"User-Agent": "nothing"}, REMOTE_ADDR="")
            assert [info.client for info in all_of(storage)] == [None]
            client.get("/put/third", headers={"User-Agent": "Tor"}, REMOTE_ADDR="")
            assert [info.client for info in all_of(storage)] == [{"device": "Tor at None"}]

    def test_a_login_and_a_change_keep_it_too(self, kept: None, storage: SpyStorage) -> None:
        client = browser()
        client.get("/put/first", headers={"User-Agent": "a"})
        client.get("/login/7", headers={"User-Agent": "b"})
        assert [info.client["user_agent"] for info in all_of(storage) if info.client] == ["b"]
        session = current_session(client.get("/read", headers={"User-Agent": "c"}).wsgi_request)
        session.change(lambda data: data.update(b=1))
        assert [info.client["user_agent"] for info in all_of(storage) if info.client] == ["c"]
        assert SessionStore(key_of(client)).info

    def test_nothing_is_kept_without_it_or_by_another_middleware(self, storage: SpyStorage) -> None:
        browser().get("/put/first", headers={"User-Agent": AGENT})
        theirs = ["django.contrib.sessions.middleware.SessionMiddleware"]
        chosen = {"storage": lambda: storage, "client_info": address_and_user_agent}
        with override_settings(SQLSESSIONS=chosen, MIDDLEWARE=theirs):
            browser().get("/put/first", headers={"User-Agent": AGENT})
        assert [info.client for info in all_of(storage)] == [None, None]

    @pytest.mark.parametrize(
        ("chosen", "error"), [(7, ImproperlyConfigured), ("nowhere.at_all", ImportError)]
    )
    def test_what_is_no_function(
        self,
        chosen: Any,
        error: type[Exception],
        storage: SpyStorage,
        in_use: None,  # noqa: F811
    ) -> None:
        setting: dict[str, Any] = {"storage": lambda: storage, "client_info": chosen}
        with override_settings(SQLSESSIONS=setting), pytest.raises(error):
            SessionStore()

    def test_a_database_beside_it(self, tmp_path: Any) -> None:
        chosen = {"url": f"sqlite:///{tmp_path}/sessions.db", "client_info": device}
        with override_settings(SQLSESSIONS=chosen):
            assert SessionStore()
