"""Lanes: who goes out with whom, and who waits for room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sqlsessions.sql.batching import queue as queues
from sqlsessions.sql.batching.operations import Operation
from sqlsessions.sql.batching.queue import MIN_SHARE, BatchQueue


class Database:
    """Takes batches, and answers them when told to."""

    def __init__(self) -> None:
        self.batches: list[list[Operation]] = []
        self.go = asyncio.Event()

    async def run(self, batch: list[Operation]) -> None:
        self.batches.append(batch)
        await self.go.wait()
        for operation in batch:
            if not operation.future.done():
                operation.future.set_result(operation.digest)

    def lane(self, *, slots: int, ordered: bool) -> BatchQueue[Operation]:
        return BatchQueue(self.run, max_concurrent_batches=slots, ordered=ordered, spawn=spawn)


def spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work())


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("waiting", "sizes"),
    [
        (1, [1]),
        (2 * MIN_SHARE - 1, [2 * MIN_SHARE - 1]),
        (2 * MIN_SHARE, [MIN_SHARE, MIN_SHARE]),
        (101, [51, 50]),
    ],
)
async def test_what_waits_is_shared_among_the_batches(ordered: bool, waiting: int, sizes: list[int]) -> None:
    database = Database()
    lane = database.lane(slots=2, ordered=ordered)
    tasks = [asyncio.create_task(lane.submit(Operation(bytes([number])))) for number in range(waiting)]
    await turns()
    assert [len(batch) for batch in database.batches] == sizes
    database.go.set()
    assert await asyncio.gather(*tasks) == [bytes([number]) for number in range(waiting)]


async def test_one_slot_takes_all() -> None:
    database = Database()
    lane = database.lane(slots=1, ordered=True)
    tasks = [asyncio.create_task(lane.submit(Operation(bytes([number])))) for number in range(100)]
    await turns()
    assert [len(batch) for batch in database.batches] == [100]
    database.go.set()
    await asyncio.gather(*tasks)


async def test_operations_on_one_session_never_overlap() -> None:
    database = Database()
    lane = database.lane(slots=2, ordered=True)
    tasks = [asyncio.create_task(lane.submit(Operation(b"same"))) for _ in range(40)]
    await turns()
    assert [len(batch) for batch in database.batches] == [1]
    database.go.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert [len(batch) for batch in database.batches] == [1] * 40


async def test_whoever_waits_for_room_gets_it_when_everybody_else_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "MAX_QUEUE", 3)
    database = Database()
    lane = database.lane(slots=1, ordered=True)
    first = asyncio.create_task(lane.submit(Operation(b"first")))
    await turns()
    leaving = [asyncio.create_task(lane.submit(Operation(bytes([number])))) for number in range(3)]
    await turns()
    late = asyncio.create_task(lane.submit(Operation(b"late")))
    await turns()
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    database.go.set()
    async with asyncio.timeout(10):
        assert await first == b"first"
        assert await late == b"late"
