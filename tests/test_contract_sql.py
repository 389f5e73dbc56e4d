"""The contract, on every database through every driver, with our engine and with the caller's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SessionStorage, SqlSessionStorage
from sqlsessions.testing import ManualClock, StorageContract

from .conftest import parameters
from .databases import AGAIN, ON_MYSQL


class TestInMemory(StorageContract):
    refuses_when_closed = True

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage("sqlite://", clock=clock)


class TestUrl(StorageContract):
    refuses_when_closed = True

    @pytest.fixture(autouse=True)
    def _url(self, sql_url: str, request: pytest.FixtureRequest) -> None:
        self.url = sql_url
        if AGAIN & set(parameters(request.node)):  # how large and how many is then no matter
            self.inline_limit, self.chunk_size, self.many = 4096, 16384, 100

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(
            self.url, clock=clock, inline_limit=self.inline_limit, chunk_size=self.chunk_size
        )


@pytest.mark.parametrize("sql_url", ON_MYSQL, indirect=True)
class TestOnMySQL(TestUrl):
    """MySQL, which is not MariaDB: no RETURNING, for one."""


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg"], indirect=True)
class TestEngine(TestUrl):
    many = 100
    # Here the engine's connections outlive the event loops that they belong to, which is the caller's
    # affair: see tests/sql/test_engines.py.
    test_event_loops_one_after_the_other_work_or_say_why_not = None  # type: ignore[assignment]
    test_event_loops_side_by_side_work_or_say_why_not = None  # type: ignore[assignment]

    @pytest_asyncio.fixture(autouse=True)
    async def _engine(self, sql_url: str) -> AsyncIterator[None]:
        self.engine = create_async_engine(sql_url)
        yield
        await self.engine.dispose()

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.engine, clock=clock)
