"""Ciphertexts: what was tampered with is refused, whatever it was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from sqlsessions import ByteReadChannel, EncryptedStorage, SessionCorrupt, SessionStorageMemory
from sqlsessions.layers.ciphertext import HEADER, LARGE, SEALED, SEGMENT, SMALL, TAG, opening, size_of
from sqlsessions.records import digest
from sqlsessions.testing._base import blob, provider_of

KEYS = [b"k" * 32]
SIZES = [0, 1, 1000, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT, 3 * SEGMENT + 7]
THREE = blob(2 * SEGMENT + 999)
"""Data of three segments."""


class Tampered:
    """A session whose ciphertext is replaced by another before it is read."""

    def __init__(self, data: bytes = THREE) -> None:
        self.memory = SessionStorageMemory()
        self.storage = EncryptedStorage(self.memory, KEYS)
        self.data = data

    async def start(self) -> Tampered:
        await self.storage.write_bytes("id", self.data)
        self.stored = await self.memory.read_bytes("id")
        self.record = self.memory._sessions[digest("id")][0]
        return self

    async def read(self, stored: bytes) -> tuple[bytes, bytes]:
        self.memory._sessions[digest("id")] = (self.record, stored)
        return await self.storage.read_bytes("id"), await self.storage.read("id", ByteReadChannel.read)

    async def refuses(self, stored: bytes) -> None:
        """Both ways of reading refuse it, and the stream gives nothing that is not of the data."""
        assert stored != self.stored
        seen = bytearray()

        async def by_piece(channel: ByteReadChannel) -> None:
            async for piece in channel:
                seen.extend(piece)

        self.memory._sessions[digest("id")] = (self.record, stored)
        with pytest.raises(SessionCorrupt):
            await self.storage.read_bytes("id")
        with pytest.raises(SessionCorrupt):
            await self.storage.read("id", by_piece)
        assert self.data.startswith(bytes(seen))


@pytest.fixture
async def tampered() -> Tampered:
    return await Tampered().start()


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_not_tampered_with_is_read(size: int) -> None:
    tampered = await Tampered(data := blob(size)).start()
    assert await tampered.read(tampered.stored) == (data, data)
    assert size_of(len(tampered.stored)) == size
    assert len(tampered.stored) == HEADER + size + TAG * max(1, -(-size // SEGMENT))


async def test_every_bit_of_the_header_and_of_a_tag_counts() -> None:
    tampered = await Tampered(b"data").start()
    for number in range(len(tampered.stored) * 8):
        await tampered.refuses(flipped(tampered.stored, number))


async def test_every_bit_of_the_headers_and_tags_of_three_segments_counts(tampered: Tampered) -> None:
    size = len(tampered.stored)
    tags = [HEADER + SEALED, HEADER + 2 * SEALED, size]
    for start, end in [(0, HEADER), *((end - TAG, end) for end in tags)]:
        for number in range(start * 8, end * 8):
            await tampered.refuses(flipped(tampered.stored, number))


async def test_bits_of_the_data_count(tampered: Tampered) -> None:
    chosen = random.Random(7)
    cipher = tampered.storage._ring.cipher(tampered.stored[:HEADER], digest("id"))
    for _ in range(500):  # through the storage
        await tampered.refuses(
            flipped(tampered.stored, chosen.randrange(HEADER * 8, len(tampered.stored) * 8))
        )
    segment = tampered.stored[HEADER : HEADER + SEALED]
    for _ in range(10_000):  # in a segment alone, which is quicker
        cipher._number = 0
        with pytest.raises(SessionCorrupt):
            cipher.open(flipped(segment, chosen.randrange(SEALED * 8)), last=False)


def flipped(stored: bytes, bit: int) -> bytes:
    """Bytes with one bit of another value."""
    changed = bytearray(stored)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


async def test_every_truncation_of_a_small_one_is_refused() -> None:
    tampered = await Tampered(b"some data").start()
    for end in range(len(tampered.stored)):
        await tampered.refuses(tampered.stored[:end])


async def test_every_truncation_of_three_segments_is_refused(tampered: Tampered) -> None:
    for end in range(HEADER, len(tampered.stored)):
        with pytest.raises(SessionCorrupt):
            tampered.storage._ring.open(tampered.stored[:end], digest("id"))


async def test_truncations_of_three_segments_are_refused_in_streams(tampered: Tampered) -> None:
    size = len(tampered.stored)
    near = {HEADER + number * SEALED + off for number in range(3) for off in (-17, -16, -1, 0, 1, 15, 16, 17)}
    for end in sorted(near | set(range(0, size, 1009)) | {size - 1, size - TAG}):
        if 0 <= end < size:
            await tampered.refuses(tampered.stored[:end])


async def test_segments_cannot_be_moved_left_out_or_repeated(tampered: Tampered) -> None:
    header, body = tampered.stored[:HEADER], tampered.stored[HEADER:]
    segments = [body[start : start + SEALED] for start in range(0, len(body), SEALED)]
    assert len(segments) == 3
    orders = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if (a, b, c) != (0, 1, 2)]
    shorter = [(a, b) for a in range(3) for b in range(3)] + [(a,) for a in range(3)] + [()]
    longer = [(0, 1, 2, each) for each in range(3)] + [(0, 0, 1, 2), (0, 1, 1, 2)]
    for order in [*orders, *shorter, *longer]:
        await tampered.refuses(header + b"".join(segments[number] for number in order))
    for end in (b"\0", bytes(TAG), bytes(SEALED)):
        await tampered.refuses(tampered.stored + end)


async def test_segments_of_another_write_do_not_fit(tampered: Tampered) -> None:
    other = await Tampered().start()
    for number in range(3):
        start, end = HEADER + number * SEALED, HEADER + (number + 1) * SEALED
        mixed = tampered.stored[:start] + other.stored[start:end] + tampered.stored[end:]
        await tampered.refuses(mixed)
    await tampered.refuses(tampered.stored[:HEADER] + other.stored[HEADER:])


async def test_nothing_is_given_before_its_segment_is_authenticated(tampered: Tampered) -> None:
    stored = flipped(tampered.stored, (HEADER + SEALED + 5) * 8)  # in the second segment
    tampered.memory._sessions[digest("id")] = (tampered.record, stored)
    pieces: list[bytes] = []

    async def by_byte(channel: ByteReadChannel) -> None:
        while piece := await channel.read(1024):
            pieces.append(piece)

    with pytest.raises(SessionCorrupt):
        await tampered.storage.read("id", by_byte)
    assert b"".join(pieces) == THREE[:SEGMENT]


async def test_chunks_of_any_size_beneath_make_no_difference() -> None:
    tampered = await Tampered().start()
    cipher = tampered.storage._ring.cipher(tampered.stored[:HEADER], digest("id"))

    async def pieces() -> AsyncIterator[bytes]:
        chosen, start = random.Random(3), HEADER
        while start < len(tampered.stored):
            end = start + chosen.choice([1, 16, 1000, SEALED, 100_000])
            yield tampered.stored[start:end]
            start = end
            await asyncio.sleep(0)

    assert b"".join([piece async for piece in opening(cipher, ByteReadChannel(pieces()))]) == THREE


async def test_no_two_writes_have_anything_in_common(tampered: Tampered) -> None:
    other = await Tampered().start()
    alike = sum(a == b for a, b in zip(tampered.stored, other.stored, strict=True))
    assert alike / len(THREE) < 1 / 200


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_streamed_session_and_one_at_hand_are_the_same_to_readers(streamed: bool) -> None:
    tampered = await Tampered(b"data").start()
    if streamed:
        await tampered.storage.write("id", provider_of(b"da", b"ta"))
    assert await tampered.storage.read_bytes("id") == b"data"
    info = await tampered.storage.info("id")
    assert info is not None
    assert info.size == 4
    tampered.stored = await tampered.memory.read_bytes("id")
    assert tampered.stored[:4] == (LARGE if streamed else SMALL)
    for number in range(len(tampered.stored) * 8):
        await tampered.refuses(flipped(tampered.stored, number))
    other = SMALL if streamed else LARGE
    await tampered.refuses(other + tampered.stored[4:])
