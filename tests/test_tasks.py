"""Work that is finished although its caller was cancelled."""

import asyncio

import anyio
import pytest

from sqlsessions._tasks import end, finish, wait_although_cancelled


class Work:
    """Ends when it is let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.ended = False

    async def run(self) -> str:
        await self.gate.wait()
        self.ended = True
        return "done"


async def started(work: Work, **options: object) -> tuple["asyncio.Task[str]", "asyncio.Task[str]"]:
    inner = asyncio.create_task(work.run())
    outer = asyncio.create_task(finish(inner, **options))  # type: ignore[arg-type]
    for _ in range(3):
        await asyncio.sleep(0)
    return inner, outer


async def test_a_result_is_passed_on() -> None:
    work = Work()
    _, outer = await started(work)
    work.gate.set()
    assert await outer == "done"


@pytest.mark.parametrize("cancels", [1, 2, 5])
async def test_a_caller_that_is_cancelled_waits_however_often(cancels: int) -> None:
    work = Work()
    _, outer = await started(work)
    for _ in range(cancels):
        outer.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not outer.done()
    work.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert work.ended


async def test_a_cancel_scope_of_anyio_waits_too() -> None:
    work = Work()
    inner = asyncio.create_task(work.run())
    asyncio.get_running_loop().call_later(0.05, work.gate.set)
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await finish(inner)
    assert work.ended
    assert scope.cancelled_caught


async def test_what_may_be_abandoned_is_cancelled_with_its_caller() -> None:
    work = Work()
    inner, outer = await started(work, may_abandon=lambda: True)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert inner.cancelled()


async def test_the_wait_has_an_end() -> None:
    work = Work()
    inner, outer = await started(work, grace=0.01)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert not inner.done()
    work.gate.set()
    await wait_although_cancelled(inner)
    assert inner.result() == "done"


async def test_a_task_ends_although_its_first_cancellation_is_lost() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(task, again=0.01)
    assert task.cancelled()
    await end(task)
    assert lost == 1
