"""What the themes of the contract of integrations share: the service under test, and requests that wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from ... import ManagedSessionStorage, SessionInfo, SessionStorageMemory
from .._base import PATIENCE
from ..clock import ManualClock
from ..spy import SpyStorage
from .browser import Browser
from .gate import Gate
from .http import HttpResponse, Send


class Integration:
    """The base of every theme."""

    pytestmark = pytest.mark.asyncio(loop_scope="function")

    cookie_name: ClassVar[str] = "session"
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if unknown := [name for name in cls.lacks if not hasattr(cls, f"test_{name}")]:
            raise TypeError(f"{cls.__name__}.lacks names no test of the contract: {', '.join(unknown)}")

    def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AbstractAsyncContextManager[Send]:
        """Serve the standard application. To be overridden."""
        raise NotImplementedError(
            f"{type(self).__name__} must define client(self, storage, gate, **settings)"
        )

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        """Make an empty storage that takes its time from the clock; one in memory unless overridden."""
        return SessionStorageMemory(clock=clock)

    @pytest.fixture(autouse=True)
    def _declared(self, request: pytest.FixtureRequest) -> None:
        """Expect a test to fail, and no other, that the subclass declares to."""
        if reason := self.lacks.get(request.function.__name__.removeprefix("test_")):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time, for the storage and the test."""
        return ManualClock()

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Where held requests wait; open once the test has ended."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest_asyncio.fixture(loop_scope="function")
    async def storage(self, clock: ManualClock) -> AsyncIterator[SpyStorage]:
        """The storage of the service; closed after the test."""
        storage = SpyStorage(await self.create_storage(clock))
        yield storage
        await storage.aclose()

    @pytest_asyncio.fixture(loop_scope="function")
    async def browser(self, storage: SpyStorage, gate: Gate) -> AsyncIterator[Browser]:
        """A browser of the standard application with its default settings."""
        async with self.serving(storage, gate) as browser:
            yield browser

    @asynccontextmanager
    async def serving(self, storage: SpyStorage, gate: Gate, **settings: Any) -> AsyncIterator[Browser]:
        """A browser of the standard application with other settings."""
        async with self.client(storage, gate, **settings) as send:
            yield Browser(send, settings.get("cookie_name", self.cookie_name))


@asynccontextmanager
async def held(gate: Gate, *requests: Coroutine[Any, Any, HttpResponse]) -> AsyncIterator[list[HttpResponse]]:
    """Have requests wait at the gate while the block runs; gives a list that has their responses after it."""
    gate.expect(len(requests))
    tasks = [asyncio.create_task(request) for request in requests]
    responses: list[HttpResponse] = []
    try:
        await gate.reached(tasks)
        yield responses
        gate.open()
        async with asyncio.timeout(PATIENCE):
            responses += await asyncio.gather(*tasks)
    finally:
        gate.open()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def live(storage: SpyStorage) -> list[SessionInfo]:
    """All live sessions."""
    return [info async for info in storage.delegate.sessions()]


@contextmanager
def secret(caplog: pytest.LogCaptureFixture, *secrets: str) -> Iterator[None]:
    """A block that logs none of these texts."""
    with caplog.at_level(logging.INFO):
        yield
    assert not any(secret in caplog.text for secret in secrets)
