"""What the themes of the contract share: the fixtures, data of telling sizes, and ways to order events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from functools import lru_cache
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from .. import (
    ByteReadChannel,
    ByteWriteChannel,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    Provider,
    SessionInfo,
    SessionStorage,
    UnsupportedOperation,
)
from .clock import ManualClock

R = TypeVar("R")

PATIENCE = 30.0  # seconds until something that should come about counts as hanging
SIZES = ("empty", "one", "small", "inline-1", "inline", "inline+1", "chunk-1", "chunk", "chunk+1", "large")
NO_NAMES: list[tuple[Any, type[Exception]]] = [
    ("", InvalidArgument),
    ("x" * 256, InvalidArgument),
    ("a\0b", InvalidArgument),
    ("a\ud800", InvalidArgument),
    (5, InvalidArgumentType),
    (b"ann", InvalidArgumentType),
    (["ann"], InvalidArgumentType),
]
"""What can be neither a subject nor a label, and the error that says so."""
by_size = pytest.mark.parametrize("size", SIZES)
small_and_large = pytest.mark.parametrize("size", ["small", "large"])


class Contract:
    """The base of every theme."""

    pytestmark = pytest.mark.asyncio(loop_scope="function")

    inline_limit = 64 * 1024
    chunk_size = 256 * 1024
    many = 1100
    refuses_when_closed = False
    keep_ended: float | None = None
    touch_every: float | None = None

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        """Make an empty storage that takes its time from the clock. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must define create_storage(self, clock)")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time, for the storage and the test."""
        return ManualClock()

    @pytest_asyncio.fixture(loop_scope="function")
    async def storage(self, clock: ManualClock) -> AsyncIterator[SessionStorage]:
        """The storage under test; closed after it, if it can be."""
        storage = await self.create_storage(clock)
        yield storage
        if aclose := getattr(storage, "aclose", None):
            await aclose()

    @pytest_asyncio.fixture(loop_scope="function")
    async def managed(self, storage: SessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it is a managed one."""
        if isinstance(storage, ManagedSessionStorage):
            try:
                await storage.info("a session that nobody wrote")
            except UnsupportedOperation as error:
                pytest.skip(str(error))
            return storage
        pytest.skip(f"{type(storage).__name__} is a plain SessionStorage, not a ManagedSessionStorage")

    def blob(self, size: str, seed: int = 0) -> bytes:
        """Data of a named size, the same for the same seed."""
        return blob(self.bytes_of(size), seed)

    def bytes_of(self, size: str) -> int:
        """What a named size is for this storage."""
        inline, chunk = self.inline_limit, self.chunk_size
        sizes = {"empty": 0, "one": 1, "small": 1000, "large": chunk * 7 // 2}
        sizes |= {"inline-1": inline - 1, "inline": inline, "inline+1": inline + 1}
        sizes |= {"chunk-1": chunk - 1, "chunk": chunk, "chunk+1": chunk + 1}
        return sizes[size]


class Blob(bytes):
    """Bytes that a failed assertion shows by their number alone.

    Else pytest, where the variable CI is set, takes minutes to print how two of them differ.
    """

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    def __add__(self, other: Any) -> Blob:
        return Blob(bytes(self) + other)


@lru_cache(maxsize=64)
def blob(size: int, seed: int = 0) -> bytes:
    """Pseudo-random bytes, the same for the same seed."""
    return Blob(random.Random(seed).randbytes(size))


def provider_of(*pieces: bytes, then: BaseException | None = None) -> Provider:
    """A provider that writes some pieces, and may raise afterwards."""

    async def provider(channel: ByteWriteChannel) -> None:
        for piece in pieces:
            await channel.write(piece)
        if then is not None:
            raise then

    return provider


async def whole(channel: ByteReadChannel) -> bytes:
    """A consumer that reads all."""
    return await channel.read()


async def listed(storage: ManagedSessionStorage, subject: str | None = None) -> list[SessionInfo]:
    """What a storage lists."""
    return [info async for info in storage.sessions(subject)]


async def state(storage: ManagedSessionStorage, id: str) -> tuple[bytes, SessionInfo] | None:
    """All that can be seen of a session, to compare before and after."""
    snapshot = await storage.load(id)
    return None if snapshot is None else (snapshot.data, snapshot.info)


class Pause:
    """A point at which a provider or consumer stops until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._resume = asyncio.Event()

    async def __call__(self) -> None:
        """Stop here; for the provider or consumer."""
        self._reached.set()
        await self._resume.wait()

    async def start(self, call: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Begin a call; returns once it stands here, or has ended without coming here."""
        task = asyncio.create_task(call)
        task.add_done_callback(lambda _: self._reached.set())
        async with asyncio.timeout(PATIENCE):
            await self._reached.wait()
        return task

    async def finish(self, task: asyncio.Task[R]) -> R:
        """Let the call go on, and wait for its result."""
        self._resume.set()
        async with asyncio.timeout(PATIENCE):
            return await task

    def providing(self, before: bytes, after: bytes = b"") -> Provider:
        """A provider that stops between two pieces."""

        async def provider(channel: ByteWriteChannel) -> None:
            await channel.write(before)
            await self()
            await channel.write(after)

        return provider

    async def reading(self, channel: ByteReadChannel) -> bytes:
        """A consumer that stops after the first few bytes and reads all the others then."""
        start = await channel.read(10)
        await self()
        return start + await channel.read()
