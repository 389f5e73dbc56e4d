"""`CompressedStorage`: compresses the data of sessions where that makes it smaller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar, Unpack

from .. import records
from ..channels import (
    ByteReadChannel,
    Bytes,
    ByteWriteChannel,
    Consumer,
    Provider,
    collect,
    consume,
    provide,
    providing,
    require_callable,
)
from ..delegating import DelegatingStorage, WriteOptions, layers
from ..errors import InvalidArgument, SessionCorrupt, SessionTooLarge
from ..info import Rebinding, SessionInfo, Snapshot
from ..storage import SessionStorage
from .codecs import BEST, BLOCK, DAMAGED, DEFAULT_LEVELS, HEAD, LEVELS, MAGIC, Codec, decompressed, head_of

R = TypeVar("R")

WORTH = 0.95
"""The share of its size that compressed data may have to be kept."""


class CompressedStorage(DelegatingStorage):
    """Compresses what it hands to another storage, with zstd, or zlib if that is not installed.

    Data whose first 64 KiB do not get smaller by a twentieth is stored as it is, and so is what has less than
    ``min_size`` bytes. What was stored without this layer is read as it is, so that it can be added at any time.
    For zstd, install the extra ``sqlsessions[zstd]``, or use Python 3.14.

    `SessionInfo.size` is the stored size, which for a compressed session is less than that of its data.

    Put it *over* an `EncryptedStorage`, so that data is compressed first: what is encrypted does not get smaller.
    Do not compress where what others can influence stands beside a secret and the size can be observed, as in the
    attacks CRIME and BREACH: the better a guess fits the secret, the smaller the session is.

    Args:
        delegate: The storage beneath; closed with this one.
        min_size: Data with fewer bytes is stored as it is. 512 unless set.
        level: Of the compression: 1 to 19 for zstd, 1 to 9 for zlib; by default 3 and 6.
        max_ratio: How many times its stored size the data of a session may be; what is compressed more is filled
            up. More than that only a writer of the database can have made: it raises `SessionCorrupt`, before it
            takes memory. 1,000 unless set.
        max_size: The most bytes of data that a session may have; a larger one raises `SessionTooLarge` when it is
            written, and `SessionCorrupt` when it is read. 1 GiB unless set.

    Raises:
        InvalidArgument: If an argument is out of its range, or what is beneath compresses already.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        delegate: SessionStorage,
        *,
        min_size: int = 512,
        level: int | None = None,
        max_ratio: int = 1000,
        max_size: int = 1024 * 1024 * 1024,
    ) -> None:
        super().__init__(delegate)
        if any(isinstance(layer, CompressedStorage) for layer in layers(delegate)):
            raise InvalidArgument("the storage beneath compresses already: nothing gets smaller twice")
        chosen = DEFAULT_LEVELS[BEST] if level is None else records.positive("level", level, LEVELS[BEST])
        self._min_size = records.positive("min_size", min_size)
        self._max_ratio = records.positive("max_ratio", max_ratio)
        self._max_size = records.positive("max_size", max_size)
        self._codec = Codec(BEST, chosen, self._max_ratio)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        async def compressing(channel: ByteWriteChannel) -> None:
            held, size = bytearray(), 0
            blocks: bool | None = None  # unknown before there is a whole one

            async def flush() -> None:
                nonlocal blocks
                block = self._codec.block(held, last=False)
                if blocks is None:
                    blocks = self._is_worth(block, held) or held.startswith(MAGIC)
                    await channel.write(MAGIC if blocks else b"")
                await channel.write(block if blocks else held)
                held.clear()

            async def sink(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                self._check(size)
                if blocks is False:
                    await channel.write(held)
                    held.clear()
                    await channel.write(piece)
                    return
                left = memoryview(piece)
                while left:
                    if len(held) == BLOCK:  # which is not the last one
                        await flush()
                    room = BLOCK - len(held)
                    held.extend(left[:room])
                    left = left[room:]

            await provide(provider, sink)
            if blocks is None:
                await channel.write(self._packed(held))
            else:
                await channel.write(self._codec.block(held, last=True) if blocks else held)

        return await super().write(id, compressing, **options)

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        if not isinstance(data, (bytes, bytearray)) or len(data) > BLOCK:
            return await self.write(id, providing(data), **options)
        self._check(len(data))
        return await super().write_bytes(id, self._packed(data), **options)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        whole = await collect(providing(data), limit=self._max_size)
        return await super().write_key(key, self._all_packed(whole), if_match=if_match)

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        require_callable("consumer", consumer)

        async def decompressing(channel: ByteReadChannel) -> R:
            return await consume(consumer, self._unpacking(channel), channel.info)

        return await super().read(id, decompressing)

    async def read_bytes(self, id: str) -> bytes:
        return self._unpacked(await super().read_bytes(id))

    async def load(self, id: str) -> Snapshot | None:
        found = await super().load(id)
        return found and Snapshot(self._unpacked(found.data), found.info)

    async def load_key(self, key: str) -> Snapshot | None:
        found = await super().load_key(key)
        return found and Snapshot(self._unpacked(found.data), found.info)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        raise self._unsupported("rotate_with")  # what it would change is compressed

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        raise self._unsupported("rebind")

    def _check(self, size: int) -> None:
        if size > self._max_size:
            raise SessionTooLarge(self._max_size, size)

    def _is_worth(self, block: bytes, data: bytes | bytearray) -> bool:
        return len(data) >= self._min_size and len(MAGIC) + len(block) <= WORTH * len(data)

    def _packed(self, data: bytes | bytearray) -> bytes:
        """Data that fits one block, as it is stored."""
        if len(data) < self._min_size and not data.startswith(MAGIC):
            return bytes(data)
        block = self._codec.block(data, last=True)
        return MAGIC + block if self._is_worth(block, data) or data.startswith(MAGIC) else bytes(data)

    def _all_packed(self, data: bytes) -> bytes:
        """Data of any size, as it is stored."""
        if len(data) <= BLOCK:
            return self._packed(data)
        starts = range(0, len(data), BLOCK)
        blocks = (self._codec.block(data[at : at + BLOCK], last=at + BLOCK >= len(data)) for at in starts)
        packed = b"".join((MAGIC, *blocks))
        return packed if len(packed) <= WORTH * len(data) or data.startswith(MAGIC) else data

    def _unpacked(self, stored: bytes) -> bytes:
        """The data of what is stored."""
        if not stored.startswith(MAGIC):
            return stored
        at, last, pieces, total = len(MAGIC), False, list[bytes](), 0
        while not last:
            kind, last, size, length = head_of(stored[at : at + HEAD.size], self._max_ratio)
            at += HEAD.size
            pieces.append(self._block(kind, stored[at : at + length], size, length, total := total + size))
            at += length
        if at != len(stored):
            raise SessionCorrupt(DAMAGED)
        return b"".join(pieces)

    async def _unpacking(self, channel: ByteReadChannel) -> AsyncIterator[bytes]:
        """The data of what a channel gives."""
        if (start := await channel.read(len(MAGIC))) != MAGIC:
            if start:
                yield start
            async for piece in channel:
                yield piece
            return
        last, total = False, 0
        while not last:
            kind, last, size, length = head_of(await channel.read(HEAD.size), self._max_ratio)
            data = self._block(kind, await channel.read(length), size, length, total := total + size)
            if data:
                yield data
        if await channel.read(1):
            raise SessionCorrupt(DAMAGED)

    def _block(self, kind: int, stored: bytes, size: int, length: int, total: int) -> bytes:
        if len(stored) != length or total > self._max_size:
            raise SessionCorrupt(DAMAGED)
        return decompressed(kind, stored, size)
