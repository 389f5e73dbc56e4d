"""Consumers, and the protocol of the channel that they read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .. import (
    ByteReadChannel,
    ChannelClosed,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionStorage,
)
from ._base import PATIENCE, Contract, Pause, small_and_large, whole
from ._providers import FAILURES


class Consumers(Contract):
    @small_and_large
    async def test_what_a_consumer_raises_comes_through(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size))
        for failure in FAILURES:

            async def consumer(channel: ByteReadChannel, failure: Exception = failure) -> None:
                await channel.read(10)
                raise failure

            with pytest.raises(type(failure)) as caught:
                await storage.read("id", consumer)
            assert caught.value is failure
        assert await storage.read_bytes("id") == self.blob(size)

    @small_and_large
    async def test_a_consumer_need_not_read_to_the_end(self, storage: SessionStorage, size: str) -> None:
        data = self.blob(size)
        await storage.write_bytes("id", data)

        async def nothing(channel: ByteReadChannel) -> None:
            pass

        async def part(channel: ByteReadChannel) -> bytes:
            return await channel.read(len(data) // 2)

        async def one_piece(channel: ByteReadChannel) -> bytes:
            return await anext(aiter(channel))

        assert await storage.read("id", nothing) is None  # type: ignore[func-returns-value]
        assert await storage.read("id", part) == data[: len(data) // 2]
        assert data.startswith(await storage.read("id", one_piece))
        assert await storage.read_bytes("id") == data

    async def test_what_a_consumer_returns_comes_back(self, storage: SessionStorage) -> None:
        await storage.write_bytes("id", b"data")
        result = object()

        async def consumer(channel: ByteReadChannel) -> object:
            return result

        assert await storage.read("id", consumer) is result

    @small_and_large
    async def test_read_gives_as_many_bytes_as_asked_until_the_end(
        self, storage: SessionStorage, size: str
    ) -> None:
        data = self.blob(size)
        await storage.write_bytes("id", data)
        for step in (len(data) // 3, len(data), len(data) + 1, self.chunk_size, self.inline_limit + 1):

            async def consumer(channel: ByteReadChannel, step: int = step) -> list[bytes]:
                pieces = [await channel.read(step)]
                while pieces[-1]:
                    assert await channel.read(0) == b""
                    pieces.append(await channel.read(step))
                assert await channel.read() == await channel.read(None) == await channel.read(5) == b""
                return pieces

            pieces = await storage.read("id", consumer)
            assert b"".join(pieces) == data
            assert all(len(piece) == step for piece in pieces[:-2])

    @pytest.mark.parametrize("rest", [-1, None])
    @small_and_large
    async def test_read_without_a_number_gives_all_that_is_left(
        self, storage: SessionStorage, size: str, rest: int | None
    ) -> None:
        await storage.write_bytes("id", self.blob(size))

        async def consumer(channel: ByteReadChannel) -> tuple[bytes, bytes]:
            return await channel.read(7), await channel.read(rest)

        assert await storage.read("id", consumer) == (self.blob(size)[:7], self.blob(size)[7:])

    @small_and_large
    async def test_readexactly_gives_all_or_says_what_is_missing(
        self, storage: SessionStorage, size: str
    ) -> None:
        data = self.blob(size)
        await storage.write_bytes("id", data)

        async def consumer(channel: ByteReadChannel) -> None:
            assert await channel.readexactly(len(data) - 10) == data[:-10]
            with pytest.raises(InvalidArgument):
                await channel.readexactly(-1)
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await channel.readexactly(11)
            assert (caught.value.partial, caught.value.expected) == (data[-10:], 11)
            assert await channel.readexactly(0) == b""

        await storage.read("id", consumer)

    @small_and_large
    async def test_readline_gives_lines_of_any_length(self, storage: SessionStorage, size: str) -> None:
        long = b"." * self.bytes_of(size)
        lines = [b"first\n", b"\n", long + b"\r\n", long + b"\n", b"no newline at the end"]
        await storage.write_bytes("id", b"".join(lines))

        async def consumer(channel: ByteReadChannel) -> list[bytes]:
            read = [await channel.readline()]
            while read[-1]:
                read.append(await channel.readline())
            return read

        assert await storage.read("id", consumer) == [*lines, b""]

    @pytest.mark.parametrize("size", ["empty", "one", "small", "chunk", "large"])
    async def test_iteration_gives_pieces_and_never_an_empty_one(
        self, storage: SessionStorage, size: str
    ) -> None:
        data = self.blob(size)
        await storage.write_bytes("id", data)

        async def consumer(channel: ByteReadChannel) -> list[bytes]:
            return [await channel.read(1)] + [piece async for piece in channel]

        first, *pieces = await storage.read("id", consumer)
        assert first + b"".join(pieces) == data
        assert all(pieces)

    @small_and_large
    async def test_the_ways_to_read_follow_each_other(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", b"line\n" + self.blob(size))

        async def consumer(channel: ByteReadChannel) -> bytes:
            assert await channel.read(2) == b"li"
            assert await channel.readline() == b"ne\n"
            start = await channel.readexactly(100)
            async for piece in channel:
                return start + piece + await channel.read()
            return start

        assert await storage.read("id", consumer) == self.blob(size)

    @small_and_large
    async def test_the_channel_shows_the_info(self, managed: ManagedSessionStorage, size: str) -> None:
        info = await managed.write_bytes("id", self.blob(size), subject="ann")

        async def consumer(channel: ByteReadChannel) -> None:
            assert channel.info == info

        await managed.read("id", consumer)
        await managed.read("id", consumer)

    @small_and_large
    async def test_a_channel_cannot_be_read_after_its_call(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size))
        kept: list[ByteReadChannel] = []

        async def consumer(channel: ByteReadChannel) -> None:
            kept.append(channel)
            await channel.read(10)

        async def failing(channel: ByteReadChannel) -> None:
            await consumer(channel)
            raise ValueError("mine")

        await storage.read("id", consumer)
        with pytest.raises(ValueError, match="mine"):
            await storage.read("id", failing)
        for channel in kept:
            for late in (channel.read(), channel.read(0), channel.readexactly(1), channel.readline()):
                with pytest.raises(ChannelClosed):
                    await late
            with pytest.raises(ChannelClosed):
                await anext(aiter(channel))

    async def test_a_consumer_that_is_no_async_function_is_refused(self, storage: SessionStorage) -> None:
        await storage.write_bytes("id", b"data")
        others: list[Any] = [None, b"data", lambda _: None, lambda _: b"data"]
        for consumer in others:
            with pytest.raises(InvalidArgumentType, match="consumer"):
                await storage.read("id", consumer)

    @small_and_large
    async def test_a_cancelled_consumer_harms_nobody(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size))
        pause = Pause()
        task = await pause.start(storage.read("id", pause.reading))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pause.finish(task)
        assert await storage.read("id", whole) == self.blob(size)

    @small_and_large
    async def test_a_consumer_may_use_the_storage(self, storage: SessionStorage, size: str) -> None:
        await storage.write_bytes("id", self.blob(size, 1))

        async def consumer(channel: ByteReadChannel) -> bytes:
            start = await channel.read(10)
            await storage.write_bytes("other", await storage.read_bytes("id"))
            await storage.write_bytes("id", self.blob(size, 2))
            return start + await channel.read()

        async with asyncio.timeout(PATIENCE):
            assert await storage.read("id", consumer) == self.blob(size, 1)
        assert await storage.read_bytes("id") == self.blob(size, 2)
        assert await storage.read_bytes("other") == self.blob(size, 1)
