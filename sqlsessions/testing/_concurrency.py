"""Many callers at once, some of whom give up."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from .. import ManagedSessionStorage, SessionNotFound, SessionStorage
from ._base import PATIENCE, Contract, listed, provider_of, small_and_large, whole


class Concurrency(Contract):
    async def test_a_hundred_operations_at_once_all_come_right(self, storage: SessionStorage) -> None:
        blobs = {
            f"id {number}": [
                self.blob(("small", "large")[number % 2], 10 * number + seed) for seed in range(5)
            ]
            for number in range(10)
        }

        async def use(id: str, seed: int, step: int) -> None:
            data = blobs[id][seed]
            try:
                match (seed + step) % 4:
                    case 0:
                        await storage.write(id, provider_of(data[:500], data[500:]))
                    case 1:
                        await storage.write_bytes(id, data)
                    case 2:
                        assert await storage.read(id, whole) in blobs[id]
                    case 3 if step:
                        await storage.invalidate(id)
                    case _:
                        assert await storage.read_bytes(id) in blobs[id]
            except SessionNotFound:
                pass

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                *(use(id, seed, step) for step in range(2) for seed in range(5) for id in blobs)
            )
            for id in blobs:
                await storage.write_bytes(id, blobs[id][0])
            read = await asyncio.gather(*(storage.read_bytes(id) for id in blobs for _ in range(10)))
        assert read == [blobs[id][0] for id in blobs for _ in range(10)]

    async def test_a_hundred_managed_operations_at_once_all_come_right(
        self, managed: ManagedSessionStorage
    ) -> None:
        ids = [f"id {number}" for number in range(10)]

        async def use(id: str, step: int) -> None:
            data = self.blob(("small", "inline+1")[step % 2], step)
            match step:
                case 0 | 1 | 2:
                    await managed.write_bytes(id, data, ttl=100 + step, subject=id)
                case 3:
                    await managed.touch(id, ttl=1000)
                case 4:
                    await managed.revoke(id)
                case 5:
                    await listed(managed, id)
                case 6:
                    await managed.info(id)
                case 7:
                    await managed.purge()
                case 8:
                    snapshot = await managed.load(id)
                    assert snapshot is None or len(snapshot.data) == snapshot.info.size
                case 9:
                    await managed.invalidate(id)

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(use(id, step) for step in range(10) for id in ids))
            infos = await asyncio.gather(*(managed.write_bytes(id, id.encode(), subject="all") for id in ids))
        assert {info.key: info async for info in managed.sessions("all")} == {
            info.key: info for info in infos
        }

    @small_and_large
    async def test_many_readers_of_one_session_all_get_it(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size))
        async with asyncio.timeout(PATIENCE):
            read = await asyncio.gather(
                *(storage.read("id", whole) for _ in range(15)),
                *(storage.read_bytes("id") for _ in range(15)),
            )
        assert set(read) == {self.blob(size)}

    @small_and_large
    async def test_callers_who_give_up_disturb_no_other_reader(
        self, storage: SessionStorage, size: str
    ) -> None:
        await storage.write_bytes("id", self.blob(size))
        for steps in range(8):
            calls = [asyncio.create_task(storage.read("id", whole)) for _ in range(12)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*calls, return_exceptions=True)
            assert set(results[1::2]) == {self.blob(size)}
            assert all(
                isinstance(result, asyncio.CancelledError) or result == self.blob(size) for result in results
            )

    @small_and_large
    async def test_callers_who_give_up_disturb_no_other_writer(
        self, storage: SessionStorage, size: str
    ) -> None:
        ids = [f"id {number}" for number in range(6)]
        for id in ids:
            await storage.write_bytes(id, self.blob(size))
        for steps in (1, 2, 4, 8):
            calls = [
                asyncio.create_task(storage.write_bytes(id, self.blob(size, 6 * steps + seed)))
                for seed, id in enumerate(ids)
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(calls)
                blobs = await asyncio.gather(*(storage.read_bytes(id) for id in ids))
            assert not any(call.cancelled() for call in calls[1::2])
            for seed, (data, call) in enumerate(zip(blobs, calls, strict=True)):
                written = self.blob(size, 6 * steps + seed)
                assert data == written if not call.cancelled() else len(data) == len(written)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(storage.write_bytes(id, self.blob(size)) for id in ids))

    @small_and_large
    async def test_callers_who_give_up_leave_sessions_whole(self, storage: SessionStorage, size: str) -> None:
        """However late the cancellation comes, the session is the old or the new one."""
        blobs = [self.blob(size, seed) for seed in range(40)]
        await storage.write_bytes("id", blobs[0])
        for seed in range(1, 40):
            old = await storage.read_bytes("id")
            call = asyncio.create_task(storage.write_bytes("id", blobs[seed]))
            for _ in range(seed):
                await asyncio.sleep(0)
            call.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait([call])
                assert await storage.read_bytes("id") in (old, blobs[seed])
        await storage.write_bytes("id", b"the last word")
        assert await storage.read_bytes("id") == b"the last word"

    async def test_a_call_that_is_cancelled_before_it_begins_leaves_no_trace(
        self, storage: SessionStorage
    ) -> None:
        await storage.write_bytes("id", b"data")
        calls: list[Coroutine[Any, Any, Any]] = [
            storage.write("id", provider_of(b"new")),
            storage.write_bytes("id", b"new"),
            storage.read("id", whole),
            storage.read_bytes("id"),
            storage.invalidate("id"),
        ]
        if isinstance(storage, ManagedSessionStorage):
            calls += [
                storage.load("id"),
                storage.info("id"),
                storage.touch("id"),
                storage.rotate("id", "new"),
            ]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            while calls:
                task = asyncio.create_task(calls.pop())
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            del task
            gc.collect(1)  # they are young, and the heap of a large suite is slow to go through
        assert not [str(each.message) for each in told if "never awaited" in str(each.message)]
        assert await storage.read_bytes("id") == b"data"
