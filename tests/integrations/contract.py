"""The contract of integrations on the storages that ours are tested on, and what their applications share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import Browser, IntegrationContract, ManualClock, SpyStorage

from ..databases import available, migrated
from .conftest import DRIVERS

Query = Mapping[str, str]


class OnEveryStorage(IntegrationContract):
    """In memory, on SQLite and on PostgreSQL."""

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

    async def test_unreadable_data_is_logged(
        self, browser: Browser, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        await storage.delegate.write_bytes(await browser.begin(a=1), b"\xff not text")
        with caplog.at_level(logging.WARNING, "sqlsessions"):
            await browser.data()
        assert "cannot be decoded" in caplog.text


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
    step.__name__: step for step in (show, put, nest, login, logout, regenerate, replace, remember)
}
