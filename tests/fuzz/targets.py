"""What is fuzzed: each target takes any bytes, and raises unless the reader does what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from io import BytesIO
from typing import TypeVar

from sqlsessions import (
    ArchiveDamaged,
    ByteReadChannel,
    CompressedStorage,
    SessionCorrupt,
    SessionStorageMemory,
)
from sqlsessions.archive.format import MAGIC, Reader, Writer
from sqlsessions.integrations._web.cookies import cookie_values, parse_id
from sqlsessions.layers.ciphertext import LARGE, SEALED, SMALL, KeyRing, opening
from sqlsessions.layers.codecs import BLOCK

T = TypeVar("T")

RING = KeyRing([b"\1" * 32, b"\2" * 32])
DIGEST = b"\3" * 32
MOST = 1 << 20
"""Bytes of a session beneath the compression."""

_loop = asyncio.new_event_loop()


def _outcome(work: Callable[[], Awaitable[T]]) -> T | type[SessionCorrupt]:
    try:
        return _loop.run_until_complete(_awaited(work))
    except SessionCorrupt:
        return SessionCorrupt


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def ciphertext(data: bytes) -> None:
    """No bytes decrypt but those that were sealed: all at once and as a stream alike.

    The first byte chooses what is sealed, and where the rest takes its place: so the fuzzer gets past the tags.
    """
    choice, data = data[:1] or b"\0", data[1:]
    ring_data = b"x" * (choice[0] % 4 * SEALED)
    sealed = bytearray(RING.seal(ring_data, DIGEST))
    at = int.from_bytes(data[:3], "big") % (len(sealed) + 1)
    stored = bytes(sealed) if choice[0] & 128 else bytes(sealed[:at]) + data[3:]
    if choice[0] & 64:  # raw: any header at all
        stored = (SMALL, LARGE)[choice[0] & 1] + data

    async def whole() -> bytes:
        return RING.open(stored, DIGEST)

    async def streamed() -> bytes:
        channel = ByteReadChannel(stored)
        cipher = RING.cipher(await channel.read(60), DIGEST)
        return b"".join([piece async for piece in opening(cipher, channel)])

    found = _outcome(whole)
    assert found == _outcome(streamed)
    assert found is SessionCorrupt or (stored == sealed and found == ring_data)
    try:
        rebound = RING.rebound(stored[: 60 + SEALED], DIGEST, DIGEST[::-1])
    except SessionCorrupt:
        assert stored != sealed
    else:
        assert len(rebound) == len(stored[: 60 + SEALED])
    RING.show(data)


def compressed(data: bytes) -> None:
    """Whatever is stored is data, alike as a whole and as a stream, or is refused; it is never a bomb."""
    stored = b"sqC1" + data
    beneath = SessionStorageMemory()
    storage = CompressedStorage(beneath, max_ratio=100, max_size=MOST)
    longest = 0

    async def streaming(channel: ByteReadChannel) -> bytes:
        nonlocal longest
        pieces = []
        async for piece in channel:
            longest = max(longest, len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    async def whole() -> bytes:
        await beneath.write_bytes("id", stored)
        return await storage.read_bytes("id")

    found = _outcome(whole)
    assert found == _outcome(lambda: storage.read("id", streaming))
    assert longest <= BLOCK
    if not isinstance(found, type):
        assert len(found) <= min(MOST, 100 * len(stored))

        async def again() -> bytes:
            await storage.write_bytes("id", found)
            return await storage.read_bytes("id")

        assert _outcome(again) == found


def cookies(data: bytes) -> None:
    """Only what may be an id is taken for one from any header, and one that stands at its end is found."""
    header = data.decode("latin-1")
    values = cookie_values(header.split("\n"), "session")
    for value in values:
        assert value in header
        id = parse_id(value)
        assert id is None or (id == value and len(id) == 43 and id.isascii())
    ours = "A" * 43
    assert cookie_values([f"{header}; session={ours}"], "session")[-1] == ours


def archive(data: bytes) -> None:
    """Whatever is read whole is an archive that is written as it was; all else is damaged.

    With a first byte of 0, the rest are sessions with a 0xFF after each, to which the right checksums are added: so the
    fuzzer gets past these.
    """
    if data[:1] == b"\0":
        data = _summed(data[1:].split(b"\xff"))
    file = BytesIO(data)
    entries = []
    try:
        reader = Reader(file)
        while (found := reader.next()) is not None:
            pieces = []
            while piece := reader.read(7):
                pieces.append(piece)
            entries.append((*found, b"".join(pieces)))
            found[1].info(found[0])
    except ArchiveDamaged:
        return
    written = BytesIO()
    writer = Writer(written)
    for entry in entries:
        writer.add(*entry)
    assert writer.end() == reader.digest
    assert written.getvalue() == data


def _summed(pieces: list[bytes]) -> bytes:
    whole, total = bytearray(MAGIC), sha256(MAGIC)
    for piece in pieces:
        total.update(piece)
        whole += piece + total.digest()
    return bytes(whole)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (ciphertext, compressed, cookies, archive)
}
