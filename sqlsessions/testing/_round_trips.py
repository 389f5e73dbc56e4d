"""What is written comes back; what is not there is said to be not there."""

from __future__ import annotations

from array import array
from datetime import timedelta
from typing import Any

import pytest

from .. import ByteReadChannel, InvalidArgumentType, ManagedSessionStorage, SessionNotFound, SessionStorage
from ._base import Contract, by_size, provider_of, small_and_large, whole
from .clock import ManualClock

SWAPPED = ["empty", "one", "small", "inline", "inline+1", "large"]
ENDINGS = ["never written", "invalidated", "invalidated by key", "revoked", "rotated", "expired", "purged"]


class RoundTrips(Contract):
    @by_size
    async def test_what_is_written_comes_back(self, storage: SessionStorage, size: str) -> None:
        data = self.blob(size)
        await storage.write("id", provider_of(data))
        assert await storage.read("id", whole) == data
        assert await storage.read_bytes("id") == data

    @by_size
    async def test_write_bytes_is_a_write(self, storage: SessionStorage, size: str) -> None:
        data = self.blob(size)
        await storage.write_bytes("id", data)
        assert await storage.read("id", whole) == data
        assert await storage.read_bytes("id") == data

    @by_size
    async def test_load_and_info_agree_with_the_write(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        data = self.blob(size)
        info = await managed.write("id", provider_of(data), ttl=60, subject="ann")
        snapshot = await managed.load("id")
        assert snapshot is not None
        assert snapshot.data == data
        assert type(snapshot.data) is bytes
        assert snapshot.info == info == await managed.info("id")
        assert info.size == len(data)
        assert info.key == managed.digest("id").hex()
        assert info.created_at == info.updated_at == clock.now
        assert info.created_at.utcoffset() == timedelta(0)
        assert info.subject == "ann"

    @small_and_large
    async def test_every_byte_value_survives(self, storage: SessionStorage, size: str) -> None:
        data = bytes(range(256)) * (-(-self.bytes_of(size) // 256))
        await storage.write_bytes("id", data)
        assert await storage.read_bytes("id") == data

    @small_and_large
    async def test_data_that_looks_like_something_else_is_left_alone(
        self, storage: SessionStorage, size: str
    ) -> None:
        filler = b" " * self.bytes_of(size)
        for data in (
            filler,
            b"\0" + filler + b"\0",
            b"\r\n" + filler + b"\n",
            b"\\x41" + filler,
            b"\xff" + filler,
        ):
            await storage.write_bytes("id", data)
            assert await storage.read_bytes("id") == data

    @pytest.mark.parametrize("old", SWAPPED)
    async def test_a_write_replaces_the_whole_blob(self, storage: SessionStorage, old: str) -> None:
        for new in SWAPPED:
            await storage.write_bytes("id", self.blob(old, 1))
            await storage.write_bytes("id", self.blob(new, 2))
            assert await storage.read_bytes("id") == self.blob(new, 2)

    @small_and_large
    async def test_buffers_of_any_kind_can_be_written(self, storage: SessionStorage, size: str) -> None:
        data = self.blob(size)
        numbers = array("I", range(self.bytes_of(size) // 4))
        for given in (bytearray(data), memoryview(data), memoryview(data)[::2], memoryview(numbers)):
            await storage.write_bytes("id", given)
            assert await storage.read_bytes("id") == bytes(given)

    @small_and_large
    async def test_a_buffer_may_be_used_again_after_the_write(
        self, storage: SessionStorage, size: str
    ) -> None:
        data = bytearray(self.blob(size))
        await storage.write_bytes("id", data)
        data[:] = bytes(len(data))
        assert await storage.read_bytes("id") == self.blob(size)

    async def test_data_of_another_type_is_refused(self, storage: SessionStorage) -> None:
        await storage.write_bytes("id", b"old")
        others: list[Any] = ["text", None, 5, [1, 2]]
        for data in others:
            with pytest.raises(InvalidArgumentType, match="data"):
                await storage.write_bytes("id", data)
        assert await storage.read_bytes("id") == b"old"

    async def test_sessions_do_not_mix(self, storage: SessionStorage) -> None:
        blobs = {f"id {seed}": self.blob(("empty", "small", "large")[seed % 3], seed) for seed in range(9)}
        for id, data in blobs.items():
            await storage.write_bytes(id, data)
        await storage.invalidate("id 0")
        await storage.invalidate("id 2")
        del blobs["id 0"], blobs["id 2"]
        assert {id: await storage.read_bytes(id) for id in blobs} == blobs

    async def test_a_rewrite_keeps_the_creation_time(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        first = await managed.write_bytes("id", b"1")
        clock.advance(1.5)
        second = await managed.write_bytes("id", b"2")
        assert second.created_at == first.created_at
        assert second.updated_at == clock.now

    @small_and_large
    @pytest.mark.parametrize("passed", [0, -5.0], ids=["at the same instant", "by a clock set back"])
    @pytest.mark.parametrize("condition", ["none", "the version"])
    async def test_only_a_session_never_rewritten_has_two_equal_times(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str, passed: float, condition: str
    ) -> None:
        first = await managed.write_bytes("id", self.blob(size, 1))
        assert first.updated_at == first.created_at
        clock.advance(passed)
        if_match = first.version if condition == "the version" else None
        second = await managed.write_bytes("id", self.blob(size, 2), if_match=if_match, ttl=10)
        assert second.created_at == first.created_at
        assert second.updated_at == first.created_at + timedelta(microseconds=1)
        assert second.expires_at == clock.now + timedelta(seconds=10)
        assert await managed.info("id") == second

    async def test_a_missing_session_is_not_found(self, storage: SessionStorage) -> None:
        async def consumer(channel: ByteReadChannel) -> None:
            pytest.fail("the consumer of a missing session was called")

        with pytest.raises(SessionNotFound):
            await storage.read("id", consumer)
        with pytest.raises(SessionNotFound):
            await storage.read_bytes("id")

    @small_and_large
    async def test_an_invalidated_session_is_not_found(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size))
        await storage.read_bytes("id")
        await storage.invalidate("id")
        await self.test_a_missing_session_is_not_found(storage)

    @small_and_large
    async def test_invalidating_twice_is_quiet(self, storage: SessionStorage, size: str) -> None:
        await storage.invalidate("id")
        await storage.write_bytes("id", self.blob(size))
        await storage.invalidate("id")
        await storage.invalidate("id")

    @small_and_large
    async def test_an_invalidated_id_can_be_written_again(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size, 1))
        await storage.invalidate("id")
        await storage.write_bytes("id", self.blob(size, 2))
        assert await storage.read_bytes("id") == self.blob(size, 2)

    @small_and_large
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_a_session_that_ended_is_absent_everywhere(
        self, managed: ManagedSessionStorage, clock: ManualClock, ending: str, size: str
    ) -> None:
        await self._end(managed, clock, ending, size)
        await self.test_a_missing_session_is_not_found(managed)
        assert await managed.load("id") is None
        assert await managed.info("id") is None
        assert await managed.touch("id") is None
        assert await managed.touch("id", ttl=60) is None
        with pytest.raises(SessionNotFound):
            await managed.rotate("id", "other")
        assert not await managed.invalidate_key(managed.digest("id").hex())
        await managed.invalidate("id")
        assert await managed.info("id") is None
        assert managed.digest("id").hex() not in [info.key async for info in managed.sessions()]

    @small_and_large
    @pytest.mark.parametrize("ending", ENDINGS)
    async def test_a_session_under_the_id_of_one_that_ended_is_new(
        self, managed: ManagedSessionStorage, clock: ManualClock, ending: str, size: str
    ) -> None:
        await self._end(managed, clock, ending, size)
        clock.advance(5)
        info = await managed.write_bytes("id", b"new")
        like = await managed.write_bytes("never used before", b"new")
        assert (info.created_at, info.expires_at, info.subject) == (clock.now, like.expires_at, None)
        assert await managed.read_bytes("id") == b"new"

    async def _end(self, managed: ManagedSessionStorage, clock: ManualClock, ending: str, size: str) -> None:
        """Write the session `id`, see to it that it was read, and end it."""
        if ending == "never written":
            return
        info = await managed.write_bytes("id", self.blob(size), ttl=60, max_age=100, subject="ann")
        await managed.load("id")
        match ending:
            case "invalidated":
                await managed.invalidate("id")
            case "invalidated by key":
                assert await managed.invalidate_key(info.key)
            case "revoked":
                assert await managed.revoke("ann") == 1
            case "rotated":
                await managed.rotate("id", "rotated")
            case _:
                clock.advance(60)
                if ending == "purged":
                    assert await managed.purge() == 1
