"""The contract on `SessionStorageMemory`."""

from sqlsessions import SessionStorageMemory
from sqlsessions.testing import ManualClock, StorageContract


class TestMemory(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorageMemory:
        return SessionStorageMemory(clock=clock)
