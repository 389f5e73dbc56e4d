"""The contract, through each layer, over memory and over SQL."""

from __future__ import annotations

import pytest

from sqlsessions import (
    CacheStorage,
    CompressedStorage,
    EncryptedStorage,
    SessionStorage,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.testing import ManualClock, StorageContract

KEYS = [b"k" * 32]


class TestEncryptedOverMemory(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return EncryptedStorage(SessionStorageMemory(clock=clock), KEYS)


@pytest.mark.variant
class TestEncryptedOverSql(StorageContract):
    many = 100

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return EncryptedStorage(SqlSessionStorage("sqlite://", clock=clock), KEYS)


class TestCacheOverEncrypted(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CacheStorage(EncryptedStorage(SessionStorageMemory(clock=clock), KEYS))


class TestEncryptedOverCache(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return EncryptedStorage(CacheStorage(SessionStorageMemory(clock=clock)), KEYS)


class TestEncryptedSubjects(StorageContract):
    many = 100
    # One of up to 160 bytes: see tests/layers/test_encryption.py.
    test_a_subject_holds_up_to_255_characters = None  # type: ignore[assignment]
    test_sixteen_labels_of_255_characters = None  # type: ignore[assignment]

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return EncryptedStorage(SqlSessionStorage("sqlite://", clock=clock), KEYS, encrypt_subjects=True)


class TestCompressedOverMemory(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CompressedStorage(SessionStorageMemory(clock=clock))


@pytest.mark.variant
class TestCompressedOverSql(StorageContract):
    many = 100

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CompressedStorage(SqlSessionStorage("sqlite://", clock=clock))


class TestAllLayers(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return CacheStorage(CompressedStorage(EncryptedStorage(SessionStorageMemory(clock=clock), KEYS)))
