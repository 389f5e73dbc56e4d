"""Clients that call a storage at random, and tell of each call before it is made and after it ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlsessions import (
    ByteReadChannel,
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    Snapshot,
    StorageUnavailable,
)

from .model import INLINE_LIMIT, MAX_WRITES, payload, token_of

Log = Callable[[dict[str, Any]], None]

LIMITS: dict[str, Any] = {"inline_limit": INLINE_LIMIT, "chunk_size": INLINE_LIMIT}
"""What the clients ask of an SqlSessionStorage, so that their large writes are chunked."""

WEIGHTS = {
    "load": 24, "read": 6, "info": 4, "touch": 8, "write": 16, "write if": 26, "invalidate": 7, "end": 3, "rotate": 9,
}  # fmt: skip
DAY = 86_400.0


@dataclass(frozen=True)
class Habits:
    """What clients do.

    Attributes:
        operations: How many calls each makes.
        cancelled: The share of calls that is cancelled.
        large: The share of writes that is chunked.
        weights: How often which call is made.
        pause: The longest pause before a call, in seconds.
    """

    operations: int = 20
    cancelled: float = 0.0
    large: float = 0.15
    weights: tuple[tuple[str, int], ...] = tuple(WEIGHTS.items())
    pause: float = 0.002


class Torn(Exception):
    """Data that is not what one write wrote."""


class Client:
    """Makes calls one after the other.

    Args:
        storage: What it calls.
        ids: The session ids that all clients share.
        number: Tells clients apart, and their writes: each has numbers of its own.
        seed: Of what it does.
        log: Gets the events.
        habits: What it does.
        versions: The versions seen last, which clients of one process share.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        ids: Sequence[str],
        number: int,
        seed: str,
        log: Log,
        habits: Habits,
        versions: dict[int, int],
    ) -> None:
        self._storage, self._ids, self._number = storage, ids, number
        self._random = random.Random(seed)
        self._log, self._habits, self._versions = log, habits, versions
        self._token = 1 + number * habits.operations
        assert self._token + habits.operations <= MAX_WRITES, "more writes than sizes tell apart"

    async def run(self) -> None:
        kinds, weights = zip(*self._habits.weights, strict=True)
        for index in range(self._habits.operations):
            if self._random.random() < 0.3:
                await asyncio.sleep(self._random.random() * self._habits.pause)
            [kind] = self._random.choices(kinds, weights)
            await self._one(index, kind)

    async def _one(self, index: int, kind: str) -> None:
        id = self._random.randrange(len(self._ids))
        call: dict[str, Any] = {
            "client": self._number,
            "index": index,
            "kind": kind.partition(" ")[0],
            "id": id,
        }
        work = self._call(kind, id, call)
        cancel = self._random.random() < self._habits.cancelled
        self._log(call | {"invoked": time.monotonic_ns()})
        end: dict[str, Any] = {"outcome": "ok"}
        try:
            result = await (self._cut_off(work) if cancel else work)
            end |= self._result(id, call, result)
        except SessionConflict:
            end["outcome"] = "conflict"
        except SessionNotFound:
            end["outcome"] = "absent"
        except StorageUnavailable:
            end["outcome"] = "unknown"
        except asyncio.CancelledError:
            if not cancel:
                raise
            end["outcome"] = "cancelled"
        except Exception as error:  # whatever it is, it should not have been
            end |= {"outcome": "unknown", "error": f"{type(error).__name__}: {error}"}
        self._log({"client": self._number, "index": index, **end, "returned": time.monotonic_ns()})
        if end["outcome"] == "unknown":
            await self._until_available()

    def _call(self, kind: str, id: int, call: dict[str, Any]) -> Awaitable[Any]:
        storage, name = self._storage, self._ids[id]
        if kind.startswith("write"):
            large = self._random.random() < self._habits.large
            call["token"], self._token = self._token, self._token + 1
            if kind == "write if":
                call["if_match"] = 0 if self._random.random() < 0.15 else self._versions.get(id, 0)
            return storage.write_bytes(
                name, payload(call["token"], large=large), if_match=call.get("if_match")
            )
        if kind == "rotate":
            call["new_id"] = (id + self._random.randrange(1, len(self._ids))) % len(self._ids)
            return storage.rotate(name, self._ids[call["new_id"]])
        if kind == "read":
            return storage.read(name, _slowly)
        if kind == "touch":
            return storage.touch(name, ttl=(20 + 20 * self._random.random()) * DAY)
        if kind == "end":
            return self._end(name)
        calls = {"load": storage.load, "info": storage.info, "invalidate": storage.invalidate}
        return calls[kind](name)

    async def _end(self, name: str) -> bool:
        from sqlsessions.records import digest

        return await self._storage.invalidate_key(digest(name).hex())

    async def _cut_off(self, work: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=self._random.random() ** 2 * 0.01)
        task.cancel()
        return await task

    def _result(self, id: int, call: dict[str, Any], result: Any) -> dict[str, Any]:
        if isinstance(result, bool):
            return {"ended": result}
        if isinstance(result, Snapshot):
            info, token = result.info, token_of(result.info.size)
            if result.data not in (payload(token, large=False), payload(token, large=True)):
                raise Torn(f"{len(result.data)} bytes that no write wrote")
        elif isinstance(result, SessionInfo):
            info = result
        elif call["kind"] == "invalidate":
            return {}
        else:
            return {"outcome": "absent"}
        self._versions[call.get("new_id", id)] = info.version
        times = [_microseconds(time) for time in (info.created_at, info.updated_at)]
        return {"seen": [token_of(info.size), info.version, *times]}

    async def _until_available(self) -> None:
        """Wait until the storage answers, so that a fault leaves few calls of unknown outcome."""
        while True:
            await asyncio.sleep(self._random.random() * 0.05)
            try:
                await self._storage.info(self._ids[0])
            except StorageUnavailable:
                continue
            except Exception:
                return
            return


async def _slowly(channel: ByteReadChannel) -> Snapshot:
    pieces = []
    while piece := await channel.read(1500):
        pieces.append(piece)
        await asyncio.sleep(0)
    assert channel.info is not None
    return Snapshot(b"".join(pieces), channel.info)


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e6)
