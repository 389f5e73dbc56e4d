"""Storages that integrations are tested on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from sqlsessions import SessionStorageMemory, SqlSessionStorage
from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import ManualClock, SpyStorage

from ..databases import available, migrated

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=DRIVERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with our tables and no sessions, on SQLite and on PostgreSQL."""
    made_by = available(request.param)
    found = migrated(request.param)
    yield found.set(drivername=DRIVERS[request.param]).render_as_string(hide_password=False)
    made_by.clear(found)


@pytest.fixture(params=["memory", *DRIVERS])
def storage(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[SpyStorage]:
    """A storage in memory, on SQLite and on PostgreSQL; it is closed with the event loops that use it."""
    if request.param == "memory":
        yield SpyStorage(SessionStorageMemory(clock=clock))
        return
    made_by = available(request.param)
    found = migrated(request.param)
    yield SpyStorage(SqlSessionStorage(found.set(drivername=DRIVERS[request.param]), clock=clock))
    made_by.clear(found)


@pytest.fixture
async def closed_in_background(storage: SpyStorage) -> AsyncIterator[None]:
    """For tests in which the background event loop uses the storage too."""
    yield
    await asyncio.to_thread(run, storage.aclose())
