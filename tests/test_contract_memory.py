"""The contract on `SessionStorageMemory`."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from sqlsessions import SessionConflict, SessionStorageMemory
from sqlsessions.testing import ManualClock, StorageContract


class TestMemory(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorageMemory:
        return SessionStorageMemory(clock=clock)


def test_event_loops_in_threads_lose_nothing() -> None:
    storage = SessionStorageMemory()
    asyncio.run(storage.write_bytes("id", b"0"))

    async def count(times: int) -> None:
        while times:
            snapshot = await storage.load("id")
            assert snapshot is not None
            try:
                await storage.write_bytes(
                    "id", b"%d" % (int(snapshot.data) + 1), if_match=snapshot.info.version
                )
            except SessionConflict:
                continue
            times -= 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(asyncio.run, [count(250) for _ in range(4)]))
    finally:
        sys.setswitchinterval(interval)
    assert asyncio.run(storage.read_bytes("id")) == b"1000"
