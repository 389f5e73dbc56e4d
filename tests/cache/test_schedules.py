"""Whatever completes when: no reader gets what was superseded before it came, and all ends up agreeing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import CacheStorage, SessionConflict, SessionNotFound
from sqlsessions.testing import ManualClock

from .support import Recorder, key, turns

R = TypeVar("R")
IDS = ["a", "b", "c"]
SUBJECT = "ann"


@dataclass
class Call:
    """A call to the cache: where in the histories of sessions it took effect."""

    effects: dict[str, int] = field(default_factory=dict)


calling: ContextVar[Call] = ContextVar("calling")


class Scheduled(Recorder):
    """Every operation waits to be let go on, before it takes effect and after.

    ``history`` has what each session was after each effect; it begins as absent.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, ttl=10_000)
        self.waiting: list[asyncio.Future[None]] = []
        self.history: dict[str, list[bytes | None]] = defaultdict(lambda: [None])

    async def at(self, point: str) -> None:
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    async def _do(self, name: str, effect: Callable[[], Awaitable[R]]) -> R:
        async def noted() -> R:
            result = await effect()
            if name not in ("read", "info"):
                for id in IDS:
                    self.history[id].append(self.data(id))
                    calling.get().effects[id] = len(self.history[id]) - 1
            return result

        return await super()._do(name, noted)

    def data(self, id: str) -> bytes | None:
        found = self._live(bytes.fromhex(key(id)))
        return found[1] if found else None

    def go_on(self, number: int) -> None:
        if self.waiting:
            waiter = self.waiting.pop(number % len(self.waiting))
            if not waiter.done():
                waiter.set_result(None)


class Play:
    """Calls to a cache, some under way, some done."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.delegate = Scheduled(self.clock)
        self.cache = CacheStorage(self.delegate, idle_timeout=100_000, max_entry_bytes=100)
        self.acknowledged = dict.fromkeys(IDS, 0)
        self.tasks: list[asyncio.Task[None]] = []
        self.serial = 0

    def new_data(self, size: int) -> bytes:
        self.serial += 1
        return b"%d." % self.serial * size

    def last_data(self, id: str) -> bytes:
        return next((data for data in reversed(self.delegate.history[id]) if data is not None), b"0.")

    async def change(self, operation: Callable[[], Awaitable[Any]]) -> None:
        call = Call()
        calling.set(call)
        try:
            await operation()
        except (SessionConflict, SessionNotFound):
            return
        for id, place in call.effects.items():
            self.acknowledged[id] = max(self.acknowledged[id], place)

    async def read(self, id: str, way: str) -> None:
        calling.set(Call())
        oldest = self.acknowledged[id]
        data: bytes | None
        if way == "load":
            snapshot = await self.cache.load(id)
            data = snapshot.data if snapshot else None
            assert snapshot is None or snapshot.info.size == len(snapshot.data)
        else:
            try:
                data = await self.cache.read_bytes(id)
            except SessionNotFound:
                data = None
        assert data in self.delegate.history[id][oldest:]

    def start(self, name: str, id: str, other: str) -> None:
        cache, last = self.cache, self.last_data(id)
        operation = {
            "write": lambda: cache.write_bytes(id, self.new_data(1)),
            "write large": lambda: cache.write_bytes(id, self.new_data(60)),
            "write subject": lambda: cache.write_bytes(id, self.new_data(2), subject=SUBJECT),
            "write again": lambda: cache.write_bytes(id, last),
            "touch": lambda: cache.touch(id),
            "invalidate": lambda: cache.invalidate(id),
            "invalidate_key": lambda: cache.invalidate_key(key(id)),
            "rotate": lambda: cache.rotate(id, other),
            "revoke": lambda: cache.revoke(SUBJECT),
        }.get(name)
        call = self.change(operation) if operation else self.read(id, name)
        self.tasks.append(asyncio.create_task(call))

    async def step(self, step: tuple[Any, ...]) -> None:
        kind, *arguments = step
        if kind == "start":
            self.start(*arguments)
        elif kind == "go on":
            self.delegate.go_on(*arguments)
        elif kind == "advance":
            self.clock.advance(100)
        elif running := [task for task in self.tasks if not task.done()]:
            running[arguments[0] % len(running)].cancel()
        await turns()

    async def resolve(self, number: int) -> None:
        """Let all go on to its end, and look whether the cache agrees with the storage."""
        while self.delegate.waiting:
            self.delegate.go_on(number)
            await turns()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        assert not self.cache._entries._flights
        assert not self.cache._loads._loads
        for id in IDS:
            entry = self.cache._entries.peek(bytes.fromhex(key(id)))
            found = self.delegate._live(bytes.fromhex(key(id)))
            if entry is not None:
                assert found is not None
                assert entry.data == found[1]
                assert entry.info == found[0].info(bytes.fromhex(key(id)))


ids = st.sampled_from(IDS)
NAMES = ["read", "load", "read", "load", "write", "write", "write large", "write subject", "write again"]
NAMES += ["write again", "touch", "touch", "invalidate", "invalidate_key", "rotate", "revoke"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(NAMES), ids, ids),
        st.tuples(st.just("start"), st.sampled_from(NAMES), st.just("a"), ids),
        st.tuples(st.just("go on"), st.integers(0, 9)),
        st.tuples(st.just("go on"), st.integers(0, 9)),
        st.tuples(st.just("go on"), st.integers(0, 9)),
        st.tuples(st.just("advance")),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
    ),
    min_size=5,
    max_size=60,
)


async def play(steps: list[tuple[Any, ...]], last: int) -> None:
    played = Play()
    for step in steps:
        await played.step(step)
    async with asyncio.timeout(30):
        await played.resolve(last)


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(0, 9))
def test_any_schedule_is_served_right(steps: list[tuple[Any, ...]], last: int) -> None:
    asyncio.run(play(steps, last))
