"""Storages that are observed: in memory, and on a database of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sqlsessions import SessionStorageMemory, SqlSessionStorage
from sqlsessions.testing import ManualClock

from ..databases import available, migrated

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "mariadb": "mysql+asyncmy"}
TINY: dict[str, Any] = {"inline_limit": 100, "chunk_size": 100}

Create = Callable[..., SqlSessionStorage | SessionStorageMemory]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", *DRIVERS])
def create(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Create]:
    """Makes a storage of a kind; its small sessions are those of up to 100 bytes."""
    if request.param == "memory":
        yield lambda **options: SessionStorageMemory(clock=clock, **options)
        return
    made_by = available(request.param)
    url = migrated(request.param)
    yield lambda **options: SqlSessionStorage(
        url.set(drivername=DRIVERS[request.param]), clock=clock, **TINY, **options
    )
    made_by.clear(url)
