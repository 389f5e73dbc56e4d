"""Byte channels: how session data streams between user code and a storage.

Both speak Python's binary file protocol, with ``await``. A channel lives for one call: leaving
its ``async with`` ends it, and a later use raises `ChannelClosed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from .errors import ChannelClosed, InvalidArgument, InvalidArgumentType, SessionTooLarge
from .info import SessionInfo

R = TypeVar("R")


class _Channel:
    """What both directions share: a life that ends with its ``async with``."""

    _ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True

    def _check(self) -> None:
        if self._ended:
            raise ChannelClosed(
                f"{type(self).__name__} used after it was closed or its call ended; "
                "use it only inside the provider or consumer that received it"
            )


class ByteWriteChannel(_Channel):
    """Where a provider writes the data of a session.

    Args:
        sink: Called with each piece of data, never empty. It is awaited before ``write`` returns,
            so that a storage which is behind holds the provider back.
    """

    def __init__(self, sink: Callable[[bytes], Awaitable[None]]) -> None:
        self._sink = sink

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write data; wait while the storage is behind.

        The data is copied or stored before this returns, so that a buffer may be used again.

        Args:
            data: Bytes of any length; empty is allowed and writes nothing.

        Returns:
            The number of bytes written, always all of them.

        Raises:
            InvalidArgumentType: If data is not bytes, bytearray or memoryview.
            ChannelClosed: If the call that this channel belongs to has ended, or it was closed.
            SessionTooLarge: As soon as the storage's size limit is passed.
        """
        self._check()
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidArgumentType(
                f"data must be bytes, bytearray or memoryview, not {type(data).__name__}"
            )
        piece = bytes(data)
        if piece:
            await self._sink(piece)
        return len(piece)

    async def close(self) -> None:
        """Say that nothing more will come. Optional: the end of the provider says so too."""
        self._ended = True


class ByteReadChannel(_Channel):
    """Where a consumer reads the data of a session.

    Args:
        source: The data: bytes, or an async iterator of pieces, which is closed with the channel.
        info: What the storage knows about the session.

    Attributes:
        info: The `SessionInfo` of the version being read, or None where the storage keeps none.
    """

    def __init__(self, source: bytes | AsyncIterator[bytes], info: SessionInfo | None = None) -> None:
        self.info = info
        self._source = None if isinstance(source, bytes) else source
        self._buffer = source if isinstance(source, bytes) else b""
        self._position = 0

    async def read(self, n: int | None = -1) -> bytes:
        """Read up to n bytes, fewer only at the end.

        Args:
            n: How many bytes at most; negative or None reads all that is left.

        Returns:
            The bytes, empty only at the end or if n is 0.

        Raises:
            ChannelClosed: If the call that this channel belongs to has ended.
            SessionChanged: If the version being streamed is gone.
        """
        self._check()
        if self._source is None and (n is None or n < 0):
            return self._take(len(self._buffer) - self._position)
        pieces = []
        wanted = float("inf") if n is None or n < 0 else n
        while wanted > 0 and (piece := await self._next(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly n bytes.

        Raises:
            asyncio.IncompleteReadError: If fewer are left; its ``partial`` holds them.
            InvalidArgument: If n is negative.
        """
        if n < 0:
            raise InvalidArgument("n must not be negative")
        data = await self.read(n)
        if len(data) < n:
            raise asyncio.IncompleteReadError(data, n)
        return data

    async def readline(self) -> bytes:
        """Read up to and including the next newline, or to the end; empty at the end."""
        self._check()
        pieces = []
        while await self._fill():
            end = self._buffer.find(b"\n", self._position) + 1
            pieces.append(self._take((end or len(self._buffer)) - self._position))
            if end:
                break
        return b"".join(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the data in pieces of the storage's size, never an empty one."""
        return self

    async def __anext__(self) -> bytes:
        self._check()
        if piece := await self._next(float("inf")):
            return piece
        raise StopAsyncIteration

    async def __aexit__(self, *exc_info: Any) -> None:  # noqa: PYI036 (passed on)
        await super().__aexit__(*exc_info)
        self._buffer = b""
        if isinstance(self._source, AsyncGenerator):
            with suppress(RuntimeError):  # still running in a task that outlived the consumer
                await self._source.aclose()

    async def _fill(self) -> bool:
        """Make sure that the buffer has something left; False at the end."""
        while self._position >= len(self._buffer):
            if self._source is None:
                return False
            piece = await anext(self._source, None)
            if piece is None:
                self._source = None
                return False
            self._buffer, self._position = piece, 0
        return True

    def _take(self, n: int) -> bytes:
        start, self._position = self._position, self._position + n
        if start == 0 and n == len(self._buffer):
            data, self._buffer, self._position = self._buffer, b"", 0
            return data
        return self._buffer[start : self._position]

    async def _next(self, limit: float) -> bytes:
        """One piece of at most limit bytes; empty at the end."""
        if not await self._fill():
            return b""
        return self._take(int(min(limit, len(self._buffer) - self._position)))


Bytes = bytes | bytearray | memoryview
Provider = Callable[[ByteWriteChannel], Awaitable[None]]
Consumer = Callable[[ByteReadChannel], Awaitable[R]]


def providing(data: Bytes) -> Provider:
    """A provider that writes data at hand.

    Raises:
        InvalidArgumentType: If data is not bytes, bytearray or memoryview.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgumentType(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")

    async def provider(channel: ByteWriteChannel) -> None:
        await channel.write(data)

    return provider


async def provide(provider: Provider, sink: Callable[[bytes], Awaitable[None]]) -> None:
    """Run a provider over a channel that feeds a sink; for those who write a storage.

    Args:
        provider: An async function that takes a `ByteWriteChannel`.
        sink: Awaited with each piece that the provider writes.

    Raises:
        InvalidArgumentType: If the provider is not an async function.
    """
    require_callable("provider", provider)
    async with ByteWriteChannel(sink) as channel:
        await awaitable("provider", provider(channel))


async def collect(provider: Provider, *, limit: int | None = None) -> bytes:
    """Run a provider and gather what it writes; for storages that keep blobs in one piece.

    Args:
        provider: An async function that takes a `ByteWriteChannel`.
        limit: The most bytes to take; None takes any number.

    Raises:
        SessionTooLarge: As soon as more than limit bytes were written.
        InvalidArgumentType: If the provider is not an async function.
    """
    gathered = bytearray()

    async def sink(piece: bytes) -> None:
        if limit is not None and len(gathered) + len(piece) > limit:
            raise SessionTooLarge(limit, len(gathered) + len(piece))
        gathered.extend(piece)

    await provide(provider, sink)
    return bytes(gathered)


async def consume(
    consumer: Consumer[R], source: bytes | AsyncIterator[bytes], info: SessionInfo | None = None
) -> R:
    """Run a consumer over data; for those who write a storage.

    Args:
        consumer: An async function that takes a `ByteReadChannel`.
        source: The data: bytes, or an async iterator of pieces.
        info: What the channel's ``info`` shows.

    Returns:
        What the consumer returned.

    Raises:
        InvalidArgumentType: If the consumer is not an async function.
    """
    require_callable("consumer", consumer)
    async with ByteReadChannel(source, info) as channel:
        return await awaitable("consumer", consumer(channel))


def require_callable(name: str, value: object) -> None:
    """Refuse a provider or consumer that cannot be called."""
    if not callable(value):
        raise InvalidArgumentType(f"{name} must be an async function, not {type(value).__name__}")


def awaitable(name: str, result: Awaitable[R]) -> Awaitable[R]:
    """Refuse a provider or consumer that is no async function."""
    if not isawaitable(result):
        raise InvalidArgumentType(f"{name} must be an async function: calling it gave nothing to await")
    return result
