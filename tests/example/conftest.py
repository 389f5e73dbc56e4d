"""Two browsers on one service, over each storage."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage, schema

from .browser import Browser


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ManagedSessionStorage]:
    if request.param == "memory":
        yield SessionStorageMemory()
        return
    url = f"sqlite+aiosqlite:///{tmp_path}/sessions.db"
    await schema.upgrade(url)
    async with SqlSessionStorage(url) as sql:
        yield sql


@pytest.fixture
async def browser(storage: ManagedSessionStorage) -> AsyncIterator[Browser]:
    async with Browser(storage) as one:
        yield one


@pytest.fixture
async def other(storage: ManagedSessionStorage) -> AsyncIterator[Browser]:
    async with Browser(storage) as another:
        yield another
