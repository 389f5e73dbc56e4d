"""The queue of batches: what goes out together, and what waits for what."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sqlsessions.sql.batching import operations
from sqlsessions.sql.batching import queue as queues
from sqlsessions.sql.batching.operations import Operation
from sqlsessions.sql.batching.queue import MIN_SHARE, BatchQueue

from .stepping import troubles

PATIENCE = 100.0


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
        return BatchQueue(
            self.run,
            max_concurrent_batches=slots,
            ordered=ordered,
            spawn=spawn,
            patience=PATIENCE,
            expired=lambda _operation: TimeoutError(),
        )


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


async def test_the_backlog_of_a_session_is_out_of_the_way_of_others() -> None:
    database = Database()
    lane = database.lane(slots=1, ordered=True)
    tasks = [asyncio.create_task(lane.submit(Operation(b"same"))) for _ in range(1000)]
    await turns()
    tasks.append(asyncio.create_task(lane.submit(Operation(b"other"))))
    await turns()
    assert len(lane._ready) == 1
    assert lane.waiting == 1000
    for task in tasks[1:900]:
        task.cancel()
    database.go.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [operation.digest for operation in database.batches[1]] == [b"other", b"same"]
    assert len(database.batches) == 101
    assert (lane.waiting, lane._lines) == (0, {})


@pytest.mark.parametrize("cancelled", [True, False])
async def test_the_turn_of_a_kept_operation_lasts_until_its_caller_leaves(cancelled: bool) -> None:
    database = Database()
    lane = database.lane(slots=2, ordered=True)
    first, second = Operation(b"same"), Operation(b"same")
    tasks = [asyncio.create_task(lane.submit(each)) for each in (first, second)]
    await turns()
    first.kept = True
    if cancelled:
        first.batch_done = asyncio.get_running_loop().create_future()
        first.future.set_result(None)
        tasks[0].cancel()
        first.batch_done.set_result(None)
    database.go.set()
    await turns(20)
    assert tasks[0].done()
    if not cancelled:
        assert database.batches == [[first]]
        lane.leave(first)
        await turns()
    assert database.batches == [[first], [second]]
    await tasks[1]
    assert lane._lines == {}


@pytest.mark.parametrize("ordered", [True, False])
async def test_what_is_not_under_way_in_time_fails_and_is_forgotten(
    ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = 0.0
    for module in (operations, queues):
        monkeypatch.setattr(module, "monotonic", lambda: time)
    database = Database()
    lane = database.lane(slots=1, ordered=ordered)
    ids = [b"sent", b"not sent", b"sent", b"other"]

    def submit() -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(lane.submit(Operation(id))) for id in ids]

    sent, *first = submit()
    await turns()
    database.batches[0][0].sent = True
    waiting = submit()
    await turns()
    time = PATIENCE / 2
    late = submit()
    await turns()
    time = PATIENCE
    lane._look()
    await turns()
    assert [type(task.exception()) for task in (*first, *waiting)] == [TimeoutError] * 7
    assert not any(task.done() for task in (sent, *late))
    assert lane.waiting == len(late)
    database.go.set()
    async with asyncio.timeout(10):
        assert await asyncio.gather(sent, *late) == [b"sent", *ids]
    assert lane.waiting == 0
    lane._look()
    assert lane._timer is None


async def test_the_error_of_an_operation_whose_caller_left_is_not_reported_as_lost() -> None:
    lane = Database().lane(slots=1, ordered=True)
    async with troubles() as heard:
        operation = Operation(b"x")
        lane.enter(operation)
        operation.future.set_exception(TimeoutError())
        lane.leave(operation)
        del operation
        await turns()
        gc.collect()
    assert heard == []
