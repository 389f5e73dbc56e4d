"""Django's session engine, by its own test clients."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, assert_type

import pytest
from django.core.checks import run_checks
from django.http import HttpRequest
from django.test import override_settings

from sqlsessions import InvalidArgument, StorageUnavailable
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.django import SessionStore, current_session
from sqlsessions.integrations.django import storage as configured
from sqlsessions.testing import ManualClock, SpyStorage

from . import support
from .django_project.browsers import abrowser, begun, browser, in_use, key_of, refused, urls  # noqa: F401 (a fixture)
from .django_project.urls import without_a_table_of_users
from .support import CountingSerializer

WAIT = 20  # seconds


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as pool:
        yield pool


class TestRequests:
    async def test_async_views(self) -> None:
        client = abrowser()
        await client.get("/aput/first")
        await client.get("/put/second")  # which blocks, in a thread
        assert (await client.get("/aread")).json() == {"first": 1, "second": 1}
        assert (await client.get("/read")).json() == {"first": 1, "second": 1}

    @pytest.mark.parametrize("key", ["", "short", "guessed-by-somebody", "é" * 43, "x" * 5000])
    def test_what_is_no_key_is_never_looked_up(self, storage: SpyStorage, key: str) -> None:
        client = browser(key)
        assert client.get("/read").json() == {}
        assert storage.calls == []
        client.get("/put/first")
        assert key_of(client) != key

    def test_this_device_is_one_of_the_listed(self) -> None:
        client = browser()
        client.get("/login/7")
        session = current_session(client.get("/read").wsgi_request)
        assert_type(session, SessionStore)
        assert session.info is not None
        assert [info.key for info in session.list_sessions()] == [session.info.key]
        assert SessionStore().info is None

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({}, None),
            ({"SQLSESSIONS": {"urll": "sqlite:///a.db"}}, "either .url. or .storage.*E001"),
            ({"SQLSESSIONS": {"url": "redis://a"}}, "unknown scheme.*E001"),
            ({"SQLSESSIONS": {"storage": "no.such.module"}}, "No module named.*E001"),
            ({"SESSION_ENGINE": "django.contrib.sessions.backends.db"}, "keeps no sessions.*W001"),
        ],
        ids=["right", "no url", "no database", "no module", "another engine"],
    )
    def test_the_check_of_the_settings(self, changed: dict[str, Any], message: str | None) -> None:
        apps = [
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "sqlsessions.integrations.django.Checks",
        ]
        with override_settings(INSTALLED_APPS=apps, **changed):
            found = [repr(each) for each in run_checks() if each.id.startswith("sqlsessions.")]
        without_a_table_of_users()  # the app, loaded once more, has connected its receiver again
        assert len(found) == (message is not None)
        assert message is None or re.search(message, found[0])

    def test_another_engine_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="no session of the engine"):
            current_session(HttpRequest())

    def test_modified_says_whether_to_save(self) -> None:
        client = browser()
        client.get("/nested")
        session = SessionStore(key_of(client))
        assert not session.modified
        assert session.pop("missing", None) is None
        assert not session.modified
        session["cart"]["apples"] += 1
        assert session.modified
        session["cart"]["apples"] -= 1
        assert not session.modified
        session["cart"] = None
        assert session.modified
        session.modified = False  # as a view may decide
        assert not session.modified

    @pytest.mark.parametrize("path", ["/read", "/put/second", "/aread", "/aput/second"])
    def test_an_unavailable_storage_is_an_error(self, storage: SpyStorage, path: str) -> None:
        client, key = begun()
        storage.down = True
        with pytest.raises(StorageUnavailable):
            client.get(path)
        with pytest.raises(StorageUnavailable):
            browser().get("/put/first")
        client.raise_request_exception = False
        answer = client.get(path)
        assert answer.status_code == 500
        assert not answer.cookies
        storage.down = False
        assert client.get("/read").json() == {"first": 1}
        assert key_of(client) == key

    @pytest.mark.parametrize("path", ["/read", "/put/second", "/aread", "/logout"])
    def test_the_middleware_of_the_docs_answers_503(
        self, storage: SpyStorage, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        _, key = begun()
        page = (Path(__file__).parents[2] / "docs" / "django.md").read_text()
        block = re.search(r'```python title="middleware.py"\n(.*?)```', page, re.DOTALL)
        assert block
        module = ModuleType("middleware_of_the_docs")
        exec(block[1], vars(module))  # noqa: S102
        monkeypatch.setitem(sys.modules, module.__name__, module)
        with override_settings(MIDDLEWARE=[f"{module.__name__}.Sessions"]):
            storage.down = True
            for answer in (browser(key).get(path), browser().get("/put/first")):
                assert answer.status_code == 503
                assert not answer.cookies
            storage.down = False
            assert browser(key).get("/read").json() == {"first": 1}

    def test_from_blocking_to_awaiting_code(self) -> None:
        client = browser()
        assert [client.get("/crossing").json()["crossed"] for _ in range(3)] == [1, 2, 3]

    async def test_from_blocking_to_awaiting_code_under_asgi(self) -> None:
        client = abrowser()
        assert [(await client.get("/crossing")).json()["crossed"] for _ in range(3)] == [1, 2, 3]


class TestConcurrency:
    async def test_fifty_tasks_lose_nothing(self, storage: SpyStorage) -> None:
        client = abrowser()
        await client.get("/aput/first")
        urls.meeting.tasks = asyncio.Barrier(50)
        requests = (abrowser(key_of(client)).get(f"/ameet/{i}") for i in range(50))
        answers = await asyncio.wait_for(asyncio.gather(*requests), 60)
        assert {answer.status_code for answer in answers} == {200}
        assert (await client.get("/aread")).json() == {"first": 1} | {str(i): 1 for i in range(50)}

    def test_what_was_merged_is_seen_and_kept(self) -> None:
        _, key = begun()
        one, other = SessionStore(key), SessionStore(key)
        assert one["first"] == other["first"] == 1
        one["of one"] = 1
        del one["first"]
        one.save()
        other["of the other"] = 1
        other.save()
        assert dict(other.items()).keys() - {"_session_expiry"} == {"of one", "of the other"}
        other["again"] = 1
        other.save()
        assert SessionStore(key).load() == {"of one": 1, "of the other": 1, "again": 1}

    def test_a_change_after_a_logout_is_refused(self, threads: ThreadPoolExecutor) -> None:
        client, key = begun()
        late = threads.submit(browser(key).get, "/slow")
        assert urls.meeting.begun.wait(WAIT)
        client.get("/logout")
        urls.meeting.may_end.set()
        assert late.result(WAIT).status_code == 400

    async def test_a_change_after_a_logout_is_refused_under_asgi(self) -> None:
        client = abrowser()
        await client.get("/aput/first")
        key = key_of(client)
        late = asyncio.create_task(abrowser(key).get("/aslow"))
        await asyncio.wait_for(urls.meeting.abegun.wait(), WAIT)
        await client.get("/alogout")
        urls.meeting.amay_end.set()
        assert (await asyncio.wait_for(late, WAIT)).status_code == 400

    def test_a_new_key_after_a_logout_is_refused(self, threads: ThreadPoolExecutor) -> None:
        client, key = begun()
        late = threads.submit(browser(key).get, "/cycle")
        assert urls.meeting.begun.wait(WAIT)
        client.get("/logout")
        urls.meeting.may_end.set()
        answer = late.result(WAIT)
        assert answer.status_code == 400
        assert not answer.cookies

    def test_logout_finds_a_session_whose_key_just_changed(self, storage: SpyStorage) -> None:
        _, key = begun()
        leaving, changing = SessionStore(key), SessionStore(key)
        leaving.get("first")
        changing.cycle_key()
        leaving.flush()
        assert not changing.exists(changing.session_key)

    async def test_event_loops_in_threads(self, threads: ThreadPoolExecutor) -> None:
        session = SessionStore()
        await session.asave()
        key = session.session_key

        async def add(name: str) -> None:
            own = SessionStore(key)
            await own.aset(name, 1)
            await own.asave()

        def block(name: str) -> None:
            own = SessionStore(key)
            own[name] = 1
            own.save()

        loop = asyncio.get_running_loop()
        others = [loop.run_in_executor(threads, asyncio.run, add(f"loop {i}")) for i in range(5)]
        others += [loop.run_in_executor(threads, block, f"thread {i}") for i in range(5)]
        await asyncio.wait_for(asyncio.gather(*others, *(add(f"task {i}") for i in range(5))), 60)
        names = {f"{kind} {i}" for kind in ("loop", "thread", "task") for i in range(5)}
        assert (await SessionStore(key).aload()).keys() == names


class TestUsers:
    def test_a_login_costs_a_read_a_rotation_and_a_write(self, storage: SpyStorage) -> None:
        client, _ = begun()
        storage.calls.clear()
        client.get("/login/7")
        assert storage.calls == ["read", "rotate", "write"]

    def test_another_user_gets_another_session(self, storage: SpyStorage) -> None:
        client, _ = begun()
        client.get("/login/7")
        client.get("/login/8")
        assert client.get("/read").json() == {}
        assert client.get("/mine").json()["user"] == 8

    def test_nobody_has_no_sessions_to_list(self) -> None:
        client, _ = begun()
        assert client.get("/mine").json()["keys"] == []

    def test_a_user_is_logged_out_everywhere(self, clock: ManualClock) -> None:
        client = browser()
        client.get("/login/7")
        assert run(configured().revoke("7")) == 1
        clock.advance(10)
        assert refused(key_of(client))


class TestCosts:
    def test_a_logout_does_not_read_the_session(self, storage: SpyStorage, clock: ManualClock) -> None:
        client, key = begun()
        storage.calls.clear()
        answer = client.get("/flush")
        assert storage.calls == ["invalidate"]
        assert answer.cookies["sessionid"]["max-age"] == 0
        clock.advance(10)
        assert refused(key)

    @pytest.mark.parametrize("keys", [1, 40])
    def test_a_write_encodes_and_decodes_no_more_for_many_keys(
        self, keys: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serializer = CountingSerializer()
        monkeypatch.setattr(support, "the_serializer", lambda: serializer, raising=False)
        with override_settings(SESSION_SERIALIZER=f"{support.__name__}.the_serializer"):
            client = browser()
            client.get(f"/put_many/{keys}/1")
            assert (serializer.dumped, serializer.loaded) == (1, 1)
            serializer.dumped = serializer.loaded = 0
            client.get(f"/put_many/{keys}/2")
            assert (serializer.dumped, serializer.loaded) == (1, 2)
            assert len(client.get("/read").json()) == keys
