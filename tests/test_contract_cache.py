"""The contract, on a cache over memory and over SQL."""

from __future__ import annotations

import pytest

from sqlsessions import CacheStorage, SessionStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.testing import ManualClock, StorageContract


class TestOverMemory(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CacheStorage(SessionStorageMemory(clock=clock))


@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite"], indirect=True)
class TestOverSql(StorageContract):
    many = 100

    @pytest.fixture(autouse=True)
    def _url(self, sql_url: str) -> None:
        self.url = sql_url

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CacheStorage(SqlSessionStorage(self.url, clock=clock))
