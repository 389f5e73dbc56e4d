"""The contract of integrations on the storages that ours are tested on, and what their applications share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import Browser, Gate, IntegrationContract, ManualClock, SpyStorage
from sqlsessions.testing._integration.base import held, live

from ..databases import available, migrated
from .conftest import DRIVERS

WERKZEUG = {"a_malformed_cookie_is_cleared": "Werkzeug ignores a cookie that no browser would send"}
Query = Mapping[str, str]


class OnEveryStorage(IntegrationContract):
    """In memory, on SQLite and on PostgreSQL."""

    clearing_value: str | None = ""
    """The value of a cookie that is cleared; None is whatever the framework sends."""

    @pytest.fixture(autouse=True, params=["memory", *DRIVERS])
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

    async def test_unreadable_data_is_logged(
        self, browser: Browser, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await storage.delegate.write_bytes(await browser.begin(a=1), b"\xff not text")
        with caplog.at_level(logging.WARNING, "sqlsessions"):
            await browser.data()
        assert "cannot be decoded" in caplog.text

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


def remember(session: Any, query: Query) -> None:
    session.set_expiry(int(query["seconds"]))


Step = Callable[[Any, Query], Any]

STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (show, put, drop, enter, nest, login, logout, regenerate, replace, remember)
}
