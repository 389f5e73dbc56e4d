"""The contract on storages that note the use of sessions: all of it on some, that of uses on each."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sqlsessions import (
    CacheStorage,
    CompressedStorage,
    DelegatingStorage,
    EncryptedStorage,
    SessionStorage,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.integrations.opentelemetry import instrument
from sqlsessions.layers.migrating import MigratingStorage
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._uses import Uses

from .databases import ON_MYSQL

EVERY = timedelta(minutes=10)
KEYS = [b"k" * 32]


@pytest.mark.variant
class TestInMemory(StorageContract):
    many = 100
    touch_every = 600.0
    refuses_when_closed = True

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage("sqlite://", clock=clock, touch_every=EVERY)


class TestMemory(StorageContract):
    touch_every = 600.0

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SessionStorageMemory(clock=clock, touch_every=EVERY)


class TestOverMemory(StorageContract):
    touch_every = 600.0

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CacheStorage(SessionStorageMemory(clock=clock, touch_every=EVERY))


class TestUrl(Uses):
    touch_every = 600.0
    durable = True

    @pytest.fixture(autouse=True)
    def _url(self, sql_url: str) -> None:
        self.url = sql_url

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock, touch_every=EVERY, durable_touches=self.durable)


@pytest.mark.parametrize("sql_url", ON_MYSQL, indirect=True)
class TestOnMySQL(TestUrl):
    """MySQL, which is not MariaDB."""


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True)
class TestNotDurable(TestUrl):
    durable = False


@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg"], indirect=True)
class TestLayers(Uses):
    touch_every = 600.0

    @pytest.fixture(autouse=True)
    def _url(self, sql_url: str) -> None:
        self.url = sql_url

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        storage = SqlSessionStorage(self.url, clock=clock, touch_every=EVERY)
        hidden = EncryptedStorage(storage, KEYS, encrypt_subjects=True)
        moving = MigratingStorage(DelegatingStorage(CompressedStorage(hidden)), SessionStorageMemory())
        return instrument(CacheStorage(moving))
