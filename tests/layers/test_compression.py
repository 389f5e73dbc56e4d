"""`CompressedStorage`: smaller where it helps, the same to readers, and never more than is allowed."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

import pytest

from sqlsessions import (
    ByteReadChannel,
    CacheStorage,
    CompressedStorage,
    DelegatingStorage,
    EncryptedStorage,
    InvalidArgument,
    SessionCorrupt,
    SessionStorageMemory,
    SessionTooLarge,
    UnsupportedOperation,
)
from sqlsessions.info import Rebinding
from sqlsessions.layers import codecs
from sqlsessions.layers.codecs import BLOCK, DEFLATE, HEAD, LAST, MAGIC, PLAIN, ZSTD
from sqlsessions.testing._base import blob, provider_of, whole

TEXT = json.dumps([{"name": f"item {number}", "price": number} for number in range(5000)]).encode()
each_codec = pytest.mark.parametrize("kind", [DEFLATE, ZSTD], ids=["zlib", "zstd"])


def storage_of(kind: int, **options: Any) -> tuple[CompressedStorage, SessionStorageMemory]:
    storage = CompressedStorage(memory := SessionStorageMemory(), **options)
    storage._codec._kind = kind
    storage._codec._level = codecs.DEFAULT_LEVELS[kind]
    return storage, memory


def pieces_of(data: bytes, seed: int) -> list[bytes]:
    chosen, pieces, start = random.Random(seed), [], 0
    while start < len(data):
        end = start + chosen.choice([1, 100, 5000, BLOCK, 3 * BLOCK])
        pieces.append(data[start:end])
        start = end
    return pieces


@each_codec
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        TEXT[:400],
        TEXT[:2000],
        TEXT[:BLOCK],
        TEXT[: BLOCK + 1],
        TEXT,
        blob(1000),
        blob(3 * BLOCK + 5),
    ]
    + [blob(BLOCK) + TEXT, TEXT[:BLOCK] + blob(2 * BLOCK) + TEXT, bytes(1_000_000)]
    + [MAGIC, MAGIC[:2], MAGIC + blob(2 * BLOCK), MAGIC + TEXT],
    ids=len,
)
async def test_what_is_written_is_read(kind: int, data: bytes) -> None:
    storage, memory = storage_of(kind)
    for seed in range(3):
        await storage.write("id", provider_of(*pieces_of(data, seed)))
        assert await storage.read("id", whole) == await storage.read_bytes("id") == data
    info = await storage.write_bytes("id", data)
    assert info.size == len(await memory.read_bytes("id"))
    assert await storage.read("id", whole) == await storage.read_bytes("id") == data
    await storage.write_key(info.key, data, if_match=info.version)
    for snapshot in (await storage.load("id"), await storage.load_key(info.key)):
        assert snapshot is not None
        assert snapshot.data == data


@each_codec
async def test_it_gets_smaller_or_stays_as_it_is(kind: int) -> None:
    storage, memory = storage_of(kind)
    for data, most in ((TEXT, len(TEXT) / 4), (blob(100_000), 100_000), (TEXT[:400], 400), (b"", 0)):
        for write in (storage.write_bytes("id", data), storage.write("id", provider_of(data))):
            await write
            assert len(stored := await memory.read_bytes("id")) <= most
            assert stored == data or len(data) == len(TEXT)


async def test_sessions_from_before_are_read() -> None:
    storage, memory = storage_of(ZSTD)
    await memory.write_bytes("id", TEXT)
    assert await storage.read_bytes("id") == await storage.read("id", whole) == TEXT


async def test_what_was_compressed_with_one_is_read_with_the_other_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, memory = storage_of(DEFLATE)
    await storage.write_bytes("id", TEXT)
    assert await CompressedStorage(memory).read_bytes("id") == TEXT
    await CompressedStorage(memory).write_bytes("zstd", TEXT)
    monkeypatch.setattr(codecs, "_MODULE", None)
    with pytest.raises(SessionCorrupt, match=r"pip install 'sqlsessions\[zstd\]'"):
        await storage.read_bytes("zstd")


def block(kind: int, size: int, stored: bytes, length: int | None = None, last: int = LAST) -> bytes:
    return HEAD.pack(kind | last, size, len(stored) if length is None else length) + stored


def zstd(data: bytes) -> bytes:
    stored = codecs.Codec(ZSTD, 3, 1_000_000).block(data, last=True)
    return stored[HEAD.size :]


BOMBS = {
    "larger than a block": block(DEFLATE, 1 << 30, zlib.compress(bytes(1 << 20))),
    "more than it says": block(DEFLATE, 1000, zlib.compress(bytes(1 << 20))),
    "more than it says, zstd": block(ZSTD, 1000, zstd(bytes(BLOCK))),
    "too high a ratio": block(DEFLATE, BLOCK, b"x" * 60),
    "less than it says": block(DEFLATE, 1000, zlib.compress(b"data")),
    "cut off": block(DEFLATE, len(TEXT[:5000]), zlib.compress(TEXT[:5000])[:-20]),
    "no zlib": block(DEFLATE, 1000, b"x" * 100),
    "no zstd": block(ZSTD, 1000, b"x" * 100),
    "of another kind": block(9, 10, b"x" * 10),
    "shorter than its head says": block(PLAIN, 10, b"x" * 9, length=10),
    "not the last": block(PLAIN, 10, b"x" * 10, last=0),
    "after the last": block(PLAIN, 10, b"x" * 10) + block(PLAIN, 10, b"x" * 10),
    "no head": b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("stored", BOMBS.values(), ids=BOMBS)
async def test_bombs_and_damage_are_refused(stored: bytes) -> None:
    storage, memory = storage_of(ZSTD)
    await memory.write_bytes("id", MAGIC + stored)
    with pytest.raises(SessionCorrupt):
        await storage.read_bytes("id")
    with pytest.raises(SessionCorrupt):
        await storage.load("id")
    with pytest.raises(SessionCorrupt):
        await storage.read("id", whole)


async def test_many_blocks_make_no_bomb_either() -> None:
    storage, memory = storage_of(DEFLATE, max_size=5 * BLOCK)
    small = zlib.compress(bytes(BLOCK)).ljust(66, b"\0")
    await memory.write_bytes("id", MAGIC + 100 * block(DEFLATE, BLOCK, small, last=0))
    seen = 0

    async def by_piece(channel: ByteReadChannel) -> None:
        nonlocal seen
        async for piece in channel:
            seen += len(piece)

    with pytest.raises(SessionCorrupt):
        await storage.read("id", by_piece)
    assert seen == 5 * BLOCK
    with pytest.raises(SessionCorrupt):
        await storage.read_bytes("id")


@each_codec
async def test_the_bound_on_the_ratio_refuses_nothing_that_was_written_here(kind: int) -> None:
    for ratio in (2, 1000, 1_000_000):
        storage, memory = storage_of(kind, max_ratio=ratio)
        await storage.write("id", provider_of(bytes(2_000_000)))
        assert await storage.read_bytes("id") == await storage.read("id", whole) == bytes(2_000_000)
        assert len(await memory.read_bytes("id")) >= 2_000_000 / ratio


async def test_more_than_may_be_is_not_written() -> None:
    storage, memory = storage_of(ZSTD, max_size=100_000)
    info = await storage.write_bytes("id", bytes(100_000))
    for write in (
        storage.write_bytes("id", bytes(100_001)),
        storage.write("id", provider_of(bytes(100_000), b"x")),
        storage.write_key(info.key, bytes(100_001), if_match=info.version),
    ):
        with pytest.raises(SessionTooLarge, match="100001 bytes seen, the limit is 100000"):
            await write
    assert await memory.info("id") == info


def test_senseless_orders_are_refused_with_the_reason() -> None:
    memory = SessionStorageMemory()
    key = [b"k" * 32]
    for beneath in (CompressedStorage(memory), DelegatingStorage(CompressedStorage(memory))):
        with pytest.raises(InvalidArgument, match="what is encrypted does not get smaller"):
            EncryptedStorage(beneath, key)
        with pytest.raises(InvalidArgument, match="compresses already"):
            CompressedStorage(beneath)
    CacheStorage(CompressedStorage(EncryptedStorage(CacheStorage(memory), key)))


@pytest.mark.parametrize(
    "options", [{"level": 0}, {"level": 20}, {"min_size": 0}, {"max_ratio": 0}, {"max_size": 0}]
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        CompressedStorage(SessionStorageMemory(), **options)


async def test_no_layer_over_it_rebinds_through_it() -> None:
    storage, _ = storage_of(ZSTD)
    info = await storage.write_bytes("id", TEXT)
    with pytest.raises(UnsupportedOperation):
        await storage.rotate_with("id", "new", Rebinding(1, bytes.upper))
    with pytest.raises(UnsupportedOperation):
        await storage.rebind(info.key, Rebinding(1, bytes.upper))
    await storage.rotate("id", "new")
    assert await storage.read_bytes("new") == TEXT
