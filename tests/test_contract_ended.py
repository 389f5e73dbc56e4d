"""The contract on storages that keep records of sessions that have ended: all of it on some, that of records on each."""

from __future__ import annotations

import pytest

from sqlsessions import (
    CacheStorage,
    EncryptedStorage,
    SessionStorage,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._ended import Ended

from .conftest import parameters
from .databases import AGAIN, ON_MYSQL

KEPT = 90 * 24 * 3600.0
KEYS = [b"k" * 32]


class TestInMemory(StorageContract):
    keep_ended = KEPT
    refuses_when_closed = True

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage("sqlite://", clock=clock, keep_ended=KEPT)


class TestMemory(StorageContract):
    keep_ended = KEPT

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SessionStorageMemory(clock=clock, keep_ended=KEPT)


class TestUrl(Ended):
    keep_ended = KEPT

    @pytest.fixture(autouse=True)
    def _url(self, sql_url: str, request: pytest.FixtureRequest) -> None:
        self.url = sql_url
        if AGAIN & set(parameters(request.node)):
            self.many = 100

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return SqlSessionStorage(self.url, clock=clock, keep_ended=KEPT, namespace="shop")


@pytest.mark.parametrize("sql_url", ON_MYSQL, indirect=True)
class TestOnMySQL(TestUrl):
    """MySQL, which is not MariaDB."""


class TestLayers(Ended):
    keep_ended = KEPT

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        storage = SqlSessionStorage("sqlite://", clock=clock, keep_ended=KEPT)
        return CacheStorage(EncryptedStorage(storage, KEYS, encrypt_subjects=True))
