"""The contract of integrations on the storages that ours are tested on, and what their applications share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import IntegrationContract, ManualClock, SpyStorage

from ..databases import available, migrated
from .conftest import DRIVERS

WERKZEUG = {"a_malformed_cookie_is_cleared": "Werkzeug ignores a cookie that no browser would send"}
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
