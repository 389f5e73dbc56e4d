"""Round trips of any data in any pieces through any stack of layers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import (
    ByteReadChannel,
    CacheStorage,
    CompressedStorage,
    DelegatingStorage,
    EncryptedStorage,
    InvalidArgument,
    ManagedSessionStorage,
    SessionStorageMemory,
)
from sqlsessions.testing._base import provider_of

LAYERS: dict[str, Callable[[ManagedSessionStorage], ManagedSessionStorage]] = {
    "cache": CacheStorage,
    "compressed": CompressedStorage,
    "encrypted": lambda storage: EncryptedStorage(storage, [b"k" * 32]),
    "nothing": DelegatingStorage,
}

pieces = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(bytes, st.integers(0, 200_000)),
        st.builds(lambda text, times: text * times, st.binary(max_size=50), st.integers(0, 5000)),
        st.randoms(use_true_random=False).map(
            lambda random: random.randbytes(random.choice([1, 65_536, 131_072, 150_000]))
        ),
    ),
    max_size=5,
)


def stack(names: list[str]) -> ManagedSessionStorage:
    storage: ManagedSessionStorage = SessionStorageMemory()
    for name in names:
        try:
            storage = LAYERS[name](storage)
        except InvalidArgument:  # a senseless order
            continue
    return storage


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(LAYERS)), max_size=5), pieces, st.integers(1, 100_000))
def test_any_data_comes_back(names: list[str], pieces: list[bytes], step: int) -> None:
    data = b"".join(pieces)

    async def by_steps(channel: ByteReadChannel) -> bytes:
        found = []
        while piece := await channel.read(step):
            assert len(piece) <= step
            found.append(piece)
        return b"".join(found)

    async def trip() -> None:
        async with stack(names) as storage:
            await storage.write("id", provider_of(*pieces))
            assert await storage.read("id", by_steps) == await storage.read_bytes("id") == data
            info = await storage.write_bytes("id", data, subject="ann")
            moved = await storage.rotate("id", "new")
            assert (moved.version, moved.subject) == (info.version, "ann")
            snapshot = await storage.load("new")
            assert snapshot is not None
            assert (snapshot.data, snapshot.info) == (data, moved)
            await storage.write_key(moved.key, data[::-1], if_match=moved.version)
            assert await storage.read("new", by_steps) == data[::-1]

    asyncio.run(trip())
