"""Queues of sessions: one at a time, in order, and never stuck."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations._web.queues import REQUEST_WAIT, SessionQueues, request_queue
from sqlsessions.testing._base import PATIENCE


async def test_one_at_a_time_in_order() -> None:
    queues, inside, order = SessionQueues(), 0, []

    async def use(number: int) -> None:
        nonlocal inside
        async with queues.turn("key", PATIENCE) as waited:
            assert waited == (number > 0)
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            order.append(number)

    await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))
    assert not await queues.enter("key", PATIENCE)


async def test_sessions_do_not_wait_for_each_other() -> None:
    queues = SessionQueues()
    assert not await queues.enter("one", PATIENCE)
    assert not await queues.enter("other", PATIENCE)


async def test_who_waits_for_too_long_is_told_and_forgotten() -> None:
    queues = SessionQueues()
    await queues.enter("key", PATIENCE)
    with pytest.raises(StorageUnavailable, match=r"0\.01 seconds"):
        await queues.enter("key", 0.01)
    queues.leave("key")
    assert not await queues.enter("key", PATIENCE)


async def test_who_is_cancelled_lets_the_next_one_in() -> None:
    queues = SessionQueues()
    await queues.enter("key", PATIENCE)
    cancelled, next_one = (asyncio.create_task(queues.enter("key", PATIENCE)) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    queues.leave("key")
    assert await asyncio.wait_for(next_one, PATIENCE)


async def test_who_is_cancelled_at_their_turn_lets_the_next_one_in() -> None:
    queues = SessionQueues()
    await queues.enter("key", PATIENCE)
    cancelled, next_one = (asyncio.create_task(queues.enter("key", PATIENCE)) for _ in range(2))
    await asyncio.sleep(0)
    queues.leave("key")  # gives the turn to a task that will not use it
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await asyncio.wait_for(next_one, PATIENCE)


async def test_event_loops_wait_for_each_other() -> None:
    queues, inside = SessionQueues(), 0

    async def use() -> None:
        nonlocal inside
        for _ in range(20):
            async with queues.turn("key", PATIENCE):
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(asyncio.run, use()) for _ in range(4)]:
            await asyncio.wrap_future(done)
    assert not await queues.enter("key", PATIENCE)


def test_the_setting() -> None:
    assert request_queue(False) is None
    assert request_queue(True) is not None
    assert REQUEST_WAIT == 10
    assert request_queue(0.5) is not None
    with pytest.raises(InvalidArgument, match="serialize"):
        request_queue(0)
    with pytest.raises(InvalidArgumentType, match="serialize"):
        request_queue("yes")  # type: ignore[arg-type]
