"""Writes that go out together do what each of them says, as one by itself does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from sqlsessions import SessionConflict, SessionInfo, SessionStorageMemory, SqlSessionStorage
from sqlsessions.sql.batching.executor import BatchExecutor
from sqlsessions.storage import ManagedSessionStorage
from sqlsessions.testing import ManualClock

from .support import each_database, each_database_and_mysql

WRITES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "match": (b"new ", {"if_match": 0, "ttl": 70}),
    "subject": (b"newer ", {"if_match": 0, "subject": "another"}),
    "conflict": (b"never ", {"if_match": 1}),
    "plain": (b"plain ", {}),
    "options": (b"more ", {"subject": "third", "ttl": 30, "client": {"name": "other"}}),
}
"""What writes of each kind write; ``if_match`` is beside the version."""

KINDS = ["touch", "end", *WRITES]
IDS = [f"id {number}" for number in range(5)]
GIVEN = [
    [name for name, given in zip(("ttl", "max_age", "subject", "client"), given, strict=True) if given]
    for given in product([False, True], repeat=4)
]


def options(given: list[str], number: int) -> dict[str, Any]:
    """Options of which each session has others."""
    every = {
        "ttl": None if number == 2 else 100.0 + number,
        "max_age": None if number == 1 else 50.0 + 30 * number,
        "subject": f"subject {number}" if number else None,
        "client": {"ip": f"10.0.0.{number}"} if number else None,
    }
    return {name: value for name, value in every.items() if name in given}


async def writes(
    storage: ManagedSessionStorage, given: list[str], clock: ManualClock, *, together: bool
) -> list[SessionInfo]:
    """Write new sessions, then over them, and then over them on a condition."""

    async def all_of(round: int, versions: Sequence[int | None]) -> list[SessionInfo]:
        calls = [
            storage.write_bytes(id, b"x" * (number + round), if_match=version, **options(given, number))
            for number, (id, version) in enumerate(zip(IDS, versions, strict=True))
        ]
        clock.advance(7)
        return await asyncio.gather(*calls) if together else [await call for call in calls]

    new = await all_of(0, [0] * len(IDS))
    over = await all_of(1, [None] * len(IDS))
    return [*new, *over, *await all_of(2, [info.version for info in over])]


@each_database
@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("given", GIVEN, ids="+".join)
async def test_each_write_is_as_its_options_say(
    sql_url: str, given: list[str], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, run = 0, BatchExecutor._run

    async def watched(executor: BatchExecutor, operations: Any, **how: Any) -> None:
        nonlocal most
        most = max(most, len(operations))
        await run(executor, operations, **how)

    monkeypatch.setattr(BatchExecutor, "_run", watched)
    clock, same = ManualClock(), ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, max_age=1000) as storage:
        found = await writes(storage, given, clock, together=together)
        expected = await writes(SessionStorageMemory(clock=same, max_age=1000), given, same, together=False)
        versions = [info.version for info in found]
        assert found == [
            replace(info, version=version) for info, version in zip(expected, versions, strict=True)
        ]
        last = found[-len(IDS) :]
        assert [await storage.info(id) for id in IDS] == last
    assert (most > 1) is together


async def changes(storage: ManagedSessionStorage, clock: ManualClock, *, together: bool) -> list[object]:
    """Change sessions in every way that makes none; what each call gave, and what is there after it."""
    ids = [f"{kind} {number}" for number in range(3) for kind in KINDS]
    versions = [
        (await storage.write_bytes(id, b"old", ttl=100, subject=id, labels=[id])).version for id in ids
    ]
    clock.advance(50)
    for id in ids[::6]:
        await storage.invalidate(id)  # which the changes below do not find
    clock.advance(10)

    def change(id: str, version: int) -> Coroutine[Any, Any, object]:
        kind = id.split(maxsplit=1)[0]
        if kind == "touch":
            return storage.touch(id, ttl=200 + len(id))
        if kind == "end":
            return storage.invalidate(id)
        data, options = WRITES[kind]
        if "if_match" in options:
            options = options | {"if_match": version + options["if_match"]}
        return storage.write_bytes(id, data + id.encode(), **options)

    calls = [change(id, version) for id, version in zip(ids, versions, strict=True)]
    if together:
        given: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    else:
        given = [await outcome(call) for call in calls]
    there = [await storage.load(id) for id in ids]
    assert [each for each in given if isinstance(each, SessionInfo)] == [
        snapshot.info
        for snapshot, each in zip(there, given, strict=True)
        if snapshot and isinstance(each, SessionInfo)
    ]
    return [
        (type(each), snapshot and (snapshot.data, replace(snapshot.info, version=1)))
        for each, snapshot in zip(given, there, strict=True)
    ]


async def outcome(call: Coroutine[Any, Any, object]) -> object:
    try:
        return await call
    except SessionConflict as error:
        return error


@each_database_and_mysql
async def test_changes_of_different_kinds_do_together_what_each_does_alone(sql_url: str) -> None:
    clock, same = ManualClock(), ManualClock()
    expected = await changes(SessionStorageMemory(clock=same), same, together=False)
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1) as storage:
        assert await changes(storage, clock, together=True) == expected
