"""What layers cost: `python -m benchmarks.layers [--quick]` prints JSON.

Small reads and writes of an `EncryptedStorage` and of the storage beneath it, in turn; and an encrypted stream
beside the cipher alone, at the same size of segments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    EncryptedStorage,
    SessionStorage,
    SqlSessionStorage,
    new_session_id,
)
from sqlsessions.channels import consume
from sqlsessions.layers.ciphertext import SEGMENT

from .load import blob, drive
from .scratch import Unavailable, database
from .worker import say

CALLERS, SIZE, SESSIONS = 64, 1024, 1000
LARGE = 64 * 1024 * 1024


async def small(kind: str, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Encrypted operations per plain one, the median of rounds in turn."""
    ids, data = [new_session_id() for _ in range(SESSIONS)], blob(SIZE)
    rates: dict[str, list[float]] = {}
    async with database(kind) as plain_url, database(kind) as encrypted_url:
        plain = SqlSessionStorage(plain_url)
        encrypted = EncryptedStorage(SqlSessionStorage(encrypted_url), [os.urandom(32)])
        async with plain, encrypted:
            sides = {"plain": plain, "encrypted": encrypted}
            for storage in sides.values():
                for id in ids:
                    await storage.write_bytes(id, data)
            for _ in range(rounds):
                for name, storage in sides.items():
                    for operation, call in (
                        ("read", storage.read_bytes),
                        ("write", lambda key, storage=storage: storage.write_bytes(key, data)),
                    ):
                        sample = await drive(call, ids, callers=CALLERS, seconds=seconds)
                        rates.setdefault(f"{name} {operation}", []).append(sample.rate)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    shares = {each: medians[f"encrypted {each}"] / medians[f"plain {each}"] for each in ("read", "write")}
    return {"rates": {name: round(rate) for name, rate in medians.items()}, "share": shares}


class Discarding(SessionStorage):
    """Keeps the pieces of the first session that is written, and no others, which would cost new memory."""

    pieces: list[bytes] | None = None

    async def write(self, id: str, provider: Any) -> None:  # noqa: D102
        kept: list[bytes] | None = [] if self.pieces is None else None

        async def sink(piece: bytes) -> None:
            if kept is not None:
                kept.append(piece)

        async with ByteWriteChannel(sink) as channel:
            await provider(channel)
        self.pieces = self.pieces or kept

    async def read(self, id: str, consumer: Any) -> Any:  # noqa: D102
        async def given() -> Any:
            for piece in self.pieces or ():
                yield piece

        return await consume(consumer, given())

    async def invalidate(self, id: str) -> None:  # noqa: D102
        self.pieces = None


async def streams(*, rounds: int, size: int) -> dict[str, Any]:  # noqa: C901 (small functions)
    """The rates of streams, and of the cipher alone over the same segments, in MiB per second."""
    storage, data = EncryptedStorage(Discarding(), [os.urandom(32)]), os.urandom(SEGMENT)
    count = size // SEGMENT

    async def provider(channel: ByteWriteChannel) -> None:
        for _ in range(count):
            await channel.write(data)

    async def consumer(channel: ByteReadChannel) -> None:
        async for _ in channel:
            pass

    cipher = AESGCM(bytes(32))
    nonces = [number.to_bytes(12, "big") for number in range(count)]
    sealed = [cipher.encrypt(nonce, data, None) for nonce in nonces]

    def encrypt() -> None:
        for nonce in nonces:
            cipher.encrypt(nonce, data, None)

    def decrypt() -> None:
        for nonce, piece in zip(nonces, sealed, strict=True):
            cipher.decrypt(nonce, piece, None)

    await storage.write("id", provider)
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, alone, call in (
            ("write", encrypt, lambda: storage.write("id", provider)),
            ("read", decrypt, lambda: storage.read("id", consumer)),
        ):
            begin = time.perf_counter()
            alone()
            middle = time.perf_counter()
            await call()
            times.setdefault(f"{name}, cipher alone", []).append(middle - begin)
            times.setdefault(name, []).append(time.perf_counter() - middle)
    rates = {name: size / 2**20 / statistics.median(each) for name, each in times.items()}
    return {name: round(rate) for name, rate in rates.items()} | {
        "share": {name: round(rates[name] / rates[f"{name}, cipher alone"], 2) for name in ("write", "read")}
    }


async def measure(*, quick: bool, rounds: int) -> dict[str, Any]:
    """Everything."""
    found: dict[str, Any] = {}
    for kind in ("sqlite", "postgresql"):
        try:
            found[kind] = await small(kind, rounds=rounds, seconds=0.05 if quick else 0.5)
        except Unavailable as error:
            say(f"{kind}: {error}")
    return found | {"streams": await streams(rounds=rounds, size=LARGE // (16 if quick else 1))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(measure(quick=options.quick, rounds=options.rounds)), indent=1))


if __name__ == "__main__":
    main()
