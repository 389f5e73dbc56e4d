"""Providers that fail, dawdle, or write in their own way."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from .. import ByteWriteChannel, ChannelClosed, InvalidArgumentType, SessionNotFound, SessionStorage
from ._base import PATIENCE, Contract, Pause, provider_of, small_and_large

FAILURES = [
    ValueError("mine"),
    OSError("mine"),
    TimeoutError("mine"),
    KeyError("mine"),
    SessionNotFound("mine"),
]


class Providers(Contract):
    @small_and_large
    @pytest.mark.parametrize("written", ["empty", "small", "inline+1", "large"])
    async def test_a_provider_that_raises_changes_nothing(
        self, storage: SessionStorage, size: str, written: str
    ) -> None:
        await storage.write_bytes("id", self.blob(size, 1))
        for failure in FAILURES:
            with pytest.raises(type(failure)) as caught:
                await storage.write("id", provider_of(self.blob(written, 2), then=failure))
            assert caught.value is failure
        assert await storage.read_bytes("id") == self.blob(size, 1)

    @pytest.mark.parametrize("written", ["empty", "small", "inline+1", "large"])
    async def test_a_provider_that_raises_creates_nothing(
        self, storage: SessionStorage, written: str
    ) -> None:
        with pytest.raises(ValueError, match="mine"):
            await storage.write("id", provider_of(self.blob(written), then=ValueError("mine")))
        with pytest.raises(SessionNotFound):
            await storage.read_bytes("id")

    @small_and_large
    @pytest.mark.parametrize("written", ["empty", "small", "inline+1", "large"])
    async def test_a_provider_that_is_cancelled_changes_nothing(
        self, storage: SessionStorage, size: str, written: str
    ) -> None:
        await storage.write_bytes("id", self.blob(size, 1))
        for id in ("id", "new"):
            pause = Pause()
            task = await pause.start(storage.write(id, pause.providing(self.blob(written, 2))))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pause.finish(task)
            assert task.cancelled()
        assert await storage.read_bytes("id") == self.blob(size, 1)
        with pytest.raises(SessionNotFound):
            await storage.read_bytes("new")

    @small_and_large
    async def test_a_write_that_times_out_changes_nothing(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size, 1))

        async def endless(channel: ByteWriteChannel) -> None:
            await channel.write(self.blob("large", 2))
            await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(storage.write("id", endless), 0.01)
        assert await storage.read_bytes("id") == self.blob(size, 1)

    async def test_a_write_after_a_failed_one_is_like_any(self, storage: SessionStorage) -> None:
        with pytest.raises(ValueError, match="mine"):
            await storage.write("id", provider_of(self.blob("large", 1), then=ValueError("mine")))
        await storage.write("id", provider_of(self.blob("large", 2)))
        assert await storage.read_bytes("id") == self.blob("large", 2)

    @small_and_large
    async def test_a_provider_that_writes_nothing_makes_an_empty_session(
        self, storage: SessionStorage, size: str
    ) -> None:
        await storage.write("new", provider_of())
        assert await storage.read_bytes("new") == b""
        await storage.write_bytes("id", self.blob(size))
        await storage.write("id", provider_of())
        assert await storage.read_bytes("id") == b""

    @pytest.mark.parametrize("step", [1, 3, 1000, 65_537, 1_000_003])
    async def test_pieces_of_any_size_make_the_same_blob(self, storage: SessionStorage, step: int) -> None:
        data = self.blob("inline+1" if step < 1000 else "large")
        pieces = [data[start : start + step] for start in range(0, len(data), step)]
        await storage.write("id", provider_of(*pieces))
        assert await storage.read_bytes("id") == data

    async def test_empty_pieces_add_nothing(self, storage: SessionStorage) -> None:
        await storage.write("id", provider_of(b"", b"a", b"", b"", b"b", b""))
        assert await storage.read_bytes("id") == b"ab"

    async def test_a_buffer_may_be_used_again_between_pieces(self, storage: SessionStorage) -> None:
        async def provider(channel: ByteWriteChannel) -> None:
            buffer = bytearray(self.chunk_size // 4 + 1)
            for value in range(10):
                buffer[:] = bytes([value]) * len(buffer)
                assert await channel.write(memoryview(buffer)) == len(buffer)

        await storage.write("id", provider)
        assert await storage.read_bytes("id") == b"".join(
            bytes([value]) * (self.chunk_size // 4 + 1) for value in range(10)
        )

    @pytest.mark.parametrize("before", ["empty", "large"])
    async def test_a_piece_of_another_type_is_refused(self, storage: SessionStorage, before: str) -> None:
        await storage.write_bytes("id", b"old")
        others: list[Any] = ["text", None, 5, [1, 2]]
        for piece in others:
            with pytest.raises(InvalidArgumentType, match="data"):
                await storage.write("id", provider_of(self.blob(before), piece))
        assert await storage.read_bytes("id") == b"old"

    async def test_a_provider_that_is_no_async_function_is_refused(self, storage: SessionStorage) -> None:
        await storage.write_bytes("id", b"old")
        others: list[Any] = [None, b"data", lambda _: None, lambda _: b"data"]
        for provider in others:
            with pytest.raises(InvalidArgumentType, match="provider"):
                await storage.write("id", provider)
        assert await storage.read_bytes("id") == b"old"

    async def test_any_callable_that_gives_an_awaitable_is_a_provider(self, storage: SessionStorage) -> None:
        async def provider(data: bytes, channel: ByteWriteChannel) -> None:
            await channel.write(data)

        await storage.write("id", partial(provider, b"partial"))
        assert await storage.read_bytes("id") == b"partial"

    @small_and_large
    async def test_a_channel_cannot_be_written_after_its_call(
        self, storage: SessionStorage, size: str
    ) -> None:
        kept: list[ByteWriteChannel] = []

        async def provider(channel: ByteWriteChannel) -> None:
            kept.append(channel)
            await channel.write(self.blob(size))

        async def failing(channel: ByteWriteChannel) -> None:
            await provider(channel)
            raise ValueError("mine")

        await storage.write("id", provider)
        with pytest.raises(ValueError, match="mine"):
            await storage.write("id", failing)
        for channel in kept:
            with pytest.raises(ChannelClosed):
                await channel.write(b"late")
        assert await storage.read_bytes("id") == self.blob(size)

    async def test_a_provider_may_close_its_channel(self, storage: SessionStorage) -> None:
        async def provider(channel: ByteWriteChannel) -> None:
            await channel.write(b"all of it")
            await channel.close()
            with pytest.raises(ChannelClosed):
                await channel.write(b"late")

        await storage.write("id", provider)
        assert await storage.read_bytes("id") == b"all of it"

    @small_and_large
    async def test_a_provider_may_use_the_storage(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size, 1))

        async def provider(channel: ByteWriteChannel) -> None:
            await channel.write(self.blob(size, 2))
            await storage.write_bytes("other", self.blob(size, 3))
            await channel.write(await storage.read_bytes("id"))
            await storage.invalidate("id")

        async with asyncio.timeout(PATIENCE):
            await storage.write("id", provider)
        assert await storage.read_bytes("id") == self.blob(size, 2) + self.blob(size, 1)
        assert await storage.read_bytes("other") == self.blob(size, 3)
