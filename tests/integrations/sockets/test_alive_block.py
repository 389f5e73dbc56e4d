"""The block of `alive`: its errors, cancellations and arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sqlsessions import SessionNotFound, StorageUnavailable
from sqlsessions.integrations._web.alive import Alive
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.testing import ManualClock, SpyStorage

from ..moving import begin
from .test_watching import OFTEN, read


async def test_an_error_of_the_body_is_its_own(storage: SpyStorage, one: SessionManager) -> None:
    session = await read(one, await begin(one, a=1))

    async def enter() -> Session:
        return session

    async def close(_code: int, _reason: str) -> None:
        pytest.fail("it is closed")

    with pytest.raises(ZeroDivisionError):
        async with Alive(enter, storage, close, lambda: True):
            raise ZeroDivisionError
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(OFTEN), Alive(enter, storage, close, lambda: True):
            await asyncio.Event().wait()


async def test_a_cancellation_from_elsewhere_stays_one(storage: SpyStorage, one: SessionManager) -> None:
    """Also if it comes together with the end of the session."""
    session = await read(one, id := await begin(one, a=1))
    inside = asyncio.Event()

    async def enter() -> Session:
        return session

    async def serve() -> None:
        async with Alive(enter, storage, None, lambda: True, every=OFTEN) as block:
            try:
                inside.set()
                await asyncio.Event().wait()
            finally:
                assert block.ended
                task.cancel()

    task = asyncio.create_task(serve())
    await inside.wait()
    await storage.delegate.invalidate(id)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_block_that_was_left_during_a_question_cancels_nothing(
    storage: SpyStorage, one: SessionManager, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await read(one, await begin(one, a=1))
    asked, answer = asyncio.Event(), asyncio.Event()

    async def infos(_keys: Any) -> Any:
        asked.set()
        await answer.wait()
        raise StorageUnavailable("it is away")

    async def enter() -> Session:
        return session

    async def serve() -> None:
        async with Alive(enter, storage, None, lambda: True, every=OFTEN):
            await asked.wait()
            clock.advance(10 * 365 * 24 * 60 * 60)
        answer.set()
        await asyncio.sleep(OFTEN)

    monkeypatch.setattr(storage, "infos", infos)
    await asyncio.create_task(serve())


async def test_a_response_that_has_not_begun_raises(storage: SpyStorage, one: SessionManager) -> None:
    session = await read(one, id := await begin(one, a=1))
    await storage.delegate.invalidate(id)

    async def enter() -> Session:
        return session

    with pytest.raises(SessionNotFound):
        async with Alive(enter, storage, None, lambda: False, every=OFTEN):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 31}, {"code": 999}, {"code": 5000}])
async def test_bad_arguments(storage: SpyStorage, options: Any) -> None:
    async def enter() -> Session:
        return Session()

    with pytest.raises(ValueError, match="must be"):
        Alive(enter, storage, None, lambda: True, **options)
