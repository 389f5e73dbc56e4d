"""The contract of integrations on the storages that ours are tested on, and what their applications share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage, new_session_id
from sqlsessions.integrations._web.cookies import Cookie
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations._web.transports import Bearer
from sqlsessions.testing import Browser, Gate, IntegrationContract, ManualClock, SpyStorage
from sqlsessions.testing._integration.base import Integration, held, live

from ..databases import available, migrated
from .conftest import DRIVERS

Query = Mapping[str, str]


IN_MEMORY = {"Bearers", "Guests", "Freshness", "Keyed", "KeyedLogout"}
"""Themes of the contract that are about no storage."""

OF_BEARERS = (
    "a_bearer_keeps_a_session",
    "a_login_gives_a_bearer_a_new_id",
    "a_logout_takes_the_id_of_a_bearer_away",
    "a_foreign_bearer_is_not_adopted",
    "a_cookie_goes_before_a_bearer",
)
"""Tests of what a framework lacks that takes an id from its cookie alone."""

OF_FRESHNESS = (
    "a_login_is_fresh_for_a_while",
    "to_authenticate_again_gives_a_new_id",
    "the_lack_of_a_fresh_login_is_a_problem",
)
"""Tests of what a framework lacks whose sessions do not know when their user logged in."""

OF_KEYS = (
    "a_key_logs_a_user_in",
    "a_key_that_stays_costs_nothing",
    "a_key_of_another_user_leaves_nothing_of_the_first",
    "a_key_that_is_dropped_logs_the_user_out",
)
"""Tests of what a framework lacks whose users are no keys of sessions."""


OF_GUESTS = (
    "a_guest_has_a_timeout_of_its_own",
    "a_login_gives_a_guest_the_timeout_of_users",
    "a_login_without_a_session_has_the_timeout_of_users",
    "what_takes_the_place_of_a_users_session_is_a_guests",
)
"""Tests of what a framework lacks that does not tell guests from users."""


class KeyedLogout(Integration):
    async def test_a_key_that_is_dropped_logs_the_user_out(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, subject_key="user") as browser:
            old = await browser.begin(user=7, a=1)
            await browser.post("/drop", user=1)
            assert browser.id not in (None, old)
            assert await browser.data() == {"a": "1"}
            assert await storage.delegate.info(old) is None
            assert [info.subject for info in await live(storage)] == [None]
            await browser.post("/put", user=8)
            await browser.post("/drop", user=1, a=1)
            assert await live(storage) == []


def with_transports(options: dict[str, Any], *, cookie_name: str = "session") -> dict[str, Any]:
    """The settings of an integration, with those of the transports for the contract's ``bearer``."""
    if options.pop("bearer", False):
        options["transports"] = [Cookie(cookie_name), Bearer()]
    return options


class OnEveryStorage(IntegrationContract, KeyedLogout):
    """In memory, on SQLite and on PostgreSQL."""

    clearing_value: str | None = ""
    """The value of a cookie that is cleared; None is whatever the framework sends."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        theme = metafunc.function.__qualname__.partition(".")[0]
        names = ["memory"] if theme in IN_MEMORY else ["memory", *DRIVERS]
        metafunc.parametrize("_database", names, indirect=True)

    @pytest.fixture(autouse=True)
    def _database(self, request: pytest.FixtureRequest) -> Iterator[None]:
        self.url = None
        if request.param == "memory":
            yield
            return
        made_by = available(request.param)
        found = migrated(request.param)
        self.url = found.set(drivername=DRIVERS[request.param])
        yield
        made_by.clear(found)

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        return (
            SessionStorageMemory(clock=clock)
            if self.url is None
            else SqlSessionStorage(self.url, clock=clock)
        )

    async def test_what_cannot_be_an_id_is_never_looked_up(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        for presented in ("", "short", "guessed-by-somebody", "x" * 5000):
            assert await browser.other(presented).data() == {}
            assert storage.calls == []

    async def test_a_503_says_why_and_when_to_try_again(self, browser: Browser, storage: SpyStorage) -> None:
        storage.down = True
        response = await browser.send("POST", "/leave", a=1)
        assert response.all("Retry-After") == ["1"]
        assert b"unavailable" in response.body.lower()

    async def test_one_of_many_sessions_is_ended_without_listing_them(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        others = [browser.other() for _ in range(3)]
        for each in (browser, *others):
            await each.post("/login", user="7")
        info = await storage.delegate.info(others[1].has_id())
        assert info is not None
        storage.calls.clear()
        assert (await browser.post("/end", key=info.key)).json() is True
        assert "sessions" not in storage.calls
        assert await others[1].data() == {}
        assert len([info async for info in storage.delegate.sessions("7")]) == 3

    async def test_of_several_cookies_one_from_before_the_login_is_left_alone(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post("/login", user="7")
        several = f"; {browser.cookie_name}="
        for ids in ((old, new_session_id()), (new_session_id(), old)):
            late = browser.other(several.join(ids))
            response = await late.get("/show")
            assert response.json() == {}
            assert late.cookie(response) is None
        assert await browser.other(several.join((old, browser.has_id()))).data() == {"a": "1"}
        await browser.other(several.join((old, new_session_id()))).post("/logout")
        assert [info async for info in storage.delegate.sessions()] == []

    async def test_a_change_that_comes_after_the_idle_timeout_is_logged(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            slow = browser.other(await browser.begin(a=1))
            gate.expect(1)
            request = asyncio.create_task(slow.held("/put", late=1))
            await gate.reached([request])
            clock.advance(101)
            gate.open()
            await request
        assert "its changes are dropped" in caplog.text
        assert [info async for info in storage.delegate.sessions()] == []

    async def test_unreadable_data_is_logged(
        self, browser: Browser, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await storage.delegate.write_bytes(await browser.begin(a=1), b"\xff not text")
        caplog.clear()
        with caplog.at_level(logging.INFO):
            await browser.data()
        assert "cannot be read" in caplog.text
        [event] = [record for record in caplog.records if vars(record).get("session_event") == "unreadable"]
        assert event.name == "sqlsessions.security"
        assert event.getMessage() == f"unreadable session presented: session={vars(event)['session_hash']}"

    async def test_the_key_of_earlier_versions_is_one_as_any_other(self, browser: Browser) -> None:
        await browser.post("/put", __sqlsessions__="[60000000, true]", a=1)
        id = browser.has_id()
        await browser.post("/put", b=2)
        found = await browser.data()
        assert (found["a"], found["b"]) == ("1", "2")
        await browser.post("/drop", __sqlsessions__=1)  # an error if it is not there
        assert await browser.data() == {"a": "1", "b": "2"}
        assert browser.id == id

    async def test_an_emptied_session_ends(self, browser: Browser, storage: SpyStorage) -> None:
        id = await browser.begin(a=1, b=2)
        await browser.post("/drop", a=1)
        assert browser.id == id
        assert await browser.data() == {"b": "2"}
        await browser.post("/drop", b=1)
        assert await storage.delegate.info(id) is None
        assert await browser.data() == {}
        await browser.post("/put", c=3)
        assert browser.has_id() != id
        assert await browser.other(id).data() == {}

    async def test_an_emptied_session_leaves_nothing(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        cookie = browser.cookie(await browser.post("/drop", a=1))
        assert cookie is not None
        assert cookie.clears
        assert self.clearing_value in (None, cookie.value)
        assert await live(storage) == []

    async def test_an_emptied_session_of_a_user_ends(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.post("/login", user=7, a=1)
        await browser.post("/drop", a=1)
        assert browser.id is None
        assert await live(storage) == []

    async def test_a_login_alone_begins_a_session_and_keeps_one(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        await browser.post("/login", user=7)
        await browser.get("/show")
        assert len(await live(storage)) == 1
        await browser.post("/put", a=1)
        await browser.post("/enter", user=7)
        [info] = await live(storage)
        assert info.subject == "7"
        assert await browser.data() == {}

    async def test_a_key_added_meanwhile_keeps_an_emptied_session(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/drop", a=1)):
            await browser.post("/put", b=2)
        assert await browser.data() == {"b": "2"}
        assert len(await live(storage)) == 1

    async def test_a_key_added_meanwhile_and_dropped_ends_it_too(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/drop", a=1)):
            await browser.post("/put", b=2)
            await browser.post("/drop", b=2)
            await browser.post("/nest")
            await browser.post("/drop", list=1)
        assert await live(storage) == []

    async def test_a_change_after_its_emptying_does_not_bring_it_back(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/put", b=2)):
            await browser.post("/drop", a=1)
        assert await live(storage) == []


class InBackground(OnEveryStorage):
    """For integrations that use the storage from an event loop of their own, where it must be closed too."""

    @pytest.fixture(autouse=True)
    async def _closed(self, _database: None, storage: SpyStorage) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(run, storage.aclose())


# The routes of the standard application, for integrations whose session is our `Session`.


def show(session: Any, _query: Query) -> Any:
    return {key: value for key, value in session.items() if not key.startswith("_")}


def put(session: Any, query: Query) -> None:
    session.update(query)


def drop(session: Any, query: Query) -> None:
    for key in query:
        session.pop(key)


def enter(session: Any, query: Query) -> None:
    """Log in, and drop what the visitor had."""
    for key in list(session):
        del session[key]
    session.subject = query["user"]


def nest(session: Any, _query: Query) -> None:
    session.setdefault("list", []).append(1)


def login(session: Any, query: Query) -> None:
    data = dict(query)
    session.subject = data.pop("user")
    session.update(data)


def logout(session: Any, _query: Query) -> None:
    session.invalidate()


def regenerate(session: Any, _query: Query) -> None:
    session.regenerate()


def replace(session: Any, query: Query) -> None:
    session.clear()
    session.update(query)


def reauthenticate(session: Any, _query: Query) -> None:
    session.reauthenticated()


def remember(session: Any, query: Query) -> None:
    session.set_expiry(int(query["seconds"]))


Step = Callable[[Any, Query], Any]

STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (show, put, drop, enter, nest, login, logout, regenerate, replace, reauthenticate, remember)
}
