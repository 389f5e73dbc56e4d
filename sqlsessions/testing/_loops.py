"""A storage's own life: its end, and more than one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from .. import ManagedSessionStorage, SessionError, SessionNotFound, SessionStorage, StorageUnavailable
from ._base import PATIENCE, Contract, provider_of, small_and_large, whole

Outcome = bytes | SessionError


class Loops(Contract):
    @small_and_large
    async def test_a_second_event_loop_works_or_says_why_not(
        self, storage: SessionStorage, size: str
    ) -> None:
        await storage.write_bytes("first", self.blob(size, 1))
        outcome = await _in_another_loop(self._use(storage, "second", size))
        assert isinstance(outcome, SessionError) or outcome == self.blob(size, 2)
        assert await storage.read("first", whole) == self.blob(size, 1)
        if outcome == self.blob(size, 2):
            assert await storage.read_bytes("second") == outcome
        await storage.write_bytes("first", b"still alive")
        assert await storage.read_bytes("first") == b"still alive"

    @small_and_large
    async def test_event_loops_one_after_the_other_work_or_say_why_not(
        self, storage: SessionStorage, size: str
    ) -> None:
        for id in ("first", "second", "third"):
            outcome = await _in_another_loop(self._use(storage, id, size))
            assert isinstance(outcome, SessionError) or outcome == self.blob(size, 2)

    async def test_event_loops_side_by_side_work_or_say_why_not(self, storage: SessionStorage) -> None:
        async def many(name: str) -> Outcome:
            try:
                for step in range(10):
                    await storage.write_bytes(f"{name} {step}", self.blob("inline+1", step))
                    assert await storage.read_bytes(f"{name} {step}") == self.blob("inline+1", step)
            except SessionError as error:
                return error
            return b"done"

        async with asyncio.timeout(PATIENCE):
            own, *others = await asyncio.gather(
                many("own"), *(_in_another_loop(partial(many, f"other {number}")) for number in range(2))
            )
        assert own == b"done" or isinstance(own, SessionError)
        assert all(isinstance(other, SessionError) or other == b"done" for other in others)

    async def test_leaving_the_context_closes(self, managed: ManagedSessionStorage) -> None:
        async with managed as entered:
            assert entered is managed
            await managed.write_bytes("id", b"data")
            assert await managed.read_bytes("id") == b"data"
        await self._check_closed(managed)

    async def test_closing_twice_is_quiet(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes("id", self.blob("large"))
        await managed.aclose()
        await managed.aclose()
        await self._check_closed(managed)

    async def test_a_storage_that_was_never_used_can_be_closed(self, managed: ManagedSessionStorage) -> None:
        await managed.aclose()
        await self._check_closed(managed)

    async def _check_closed(self, managed: ManagedSessionStorage) -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: managed.read_bytes("id"),
            lambda: managed.write_bytes("id", b"data"),
            lambda: managed.write("id", provider_of(self.blob("large"))),
            lambda: managed.info("id"),
            managed.purge,
        ]
        for call in calls:
            try:
                async with asyncio.timeout(PATIENCE):
                    with suppress(SessionNotFound):
                        await call()
            except StorageUnavailable:
                continue
            if self.refuses_when_closed:
                pytest.fail("the storage was used after it was closed")

    def _use(self, storage: SessionStorage, id: str, size: str) -> Callable[[], Awaitable[Outcome]]:
        async def use() -> Outcome:
            try:
                await storage.write_bytes(id, self.blob(size, 1))
                await storage.write(id, provider_of(self.blob(size, 2)))
                return await storage.read(id, whole)
            except SessionError as error:
                return error

        return use


async def _in_another_loop(use: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Run something in an event loop of its own, in another thread, for a bounded time."""

    async def bounded() -> Outcome:
        async with asyncio.timeout(PATIENCE):
            return await use()

    return await asyncio.to_thread(lambda: asyncio.run(bounded()))
