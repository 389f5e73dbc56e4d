"""Records histories: tells worker processes what to do, and breaks things meanwhile."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, Self

from .bus import BusProxy
from .clients import Habits
from .history import History
from .proxy import LossyProxy
from .workers import Worker

FAULTS = ("cancel", "cut", "kill", "stop", "bus", "server")
"""Calls are cancelled; connections lost; workers killed; workers stopped for a while; what carries notices is cut,
paused or away for a while; servers killed."""
CANCELLED = 0.1
CUT_RATE = 0.03
DOWN = 0.3  # seconds at most that a killed server stays away
NEVER_LOSES_CONNECTIONS = {"cancel", "stop", "bus"}


class Server(Protocol):
    """A server that can be killed, and started on what it left; both block."""

    def kill(self) -> None: ...

    def start(self) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What is recorded.

    Attributes:
        urls: Of the database; of several, each worker takes the next one.
        faults: Which of `FAULTS`.
        seed: Of everything random.
        processes: Workers.
        clients: Clients of each, in each history.
        ids: Session ids that all clients of a history share.
        together: Histories that are recorded at the same time, by the same workers.
        habits: What each client does.
        options: More arguments of each worker's storage; as "cache", those of a cache over it; as "bound", seconds for
            which a proof of its bus holds; as "mute", whether that gives no notices.
        bus: The URL of what carries notices, where the fault "bus" stands in between; of MariaDB or MySQL, whose
            notices come the way of everything else, that of the database.
        staleness: Seconds by which what is only looked at may be behind.
        servers: What the fault "server" kills, one at a time.
    """

    urls: Sequence[str]
    faults: frozenset[str] = frozenset()
    seed: int = 0
    processes: int = 4
    clients: int = 3
    ids: int = 3
    together: int = 1
    habits: Habits = field(default_factory=Habits)
    options: Mapping[str, Any] = field(default_factory=dict)
    servers: Sequence[Server] = ()
    bus: str | None = None
    staleness: float = 0.0

    def __post_init__(self) -> None:
        if unknown := self.faults.difference(FAULTS):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        if "cut" in self.faults and any(url.startswith("sqlite") for url in self.urls):
            raise ValueError("SQLite has no connections to cut")
        if "bus" in self.faults and self.bus is None:
            raise ValueError("the fault bus needs the URL of what carries notices")
        if "server" in self.faults and not self.servers:
            raise ValueError("the fault server needs servers of its own, that may be killed")

    @property
    def notices_by_polling(self) -> bool:
        """Whether the fault "bus" is one of the whole database."""
        return self.bus is not None and self.bus.startswith("mysql")

    @property
    def loses_connections(self) -> bool:
        """Whether calls may be lost on their way, or their answers."""
        return not self.faults <= NEVER_LOSES_CONNECTIONS or self.notices_by_polling


class Recorder:
    """Workers that are ready for history after history.

    Attributes:
        faults: How many of each kind there were.
        reads: How caches answered.
    """

    def __init__(
        self, plan: Plan, proxies: Sequence[LossyProxy], bus: BusProxy | None, stack: AsyncExitStack
    ) -> None:
        self.plan = plan
        self._bus = bus
        self._options = dict(plan.options)
        self._urls = [proxy.url for proxy in proxies] or list(plan.urls)
        if bus and plan.notices_by_polling:
            self._urls = [bus.url]
        elif bus:
            self._options["bus"] = bus.url
        self.faults = dict.fromkeys(plan.faults, 0)
        self.reads: Counter[str] = Counter()
        self._proxies = proxies
        self._stack = stack
        self._workers: list[Worker] = []
        self._spare: asyncio.Task[Worker] | None = None
        self._started = 0
        self._numbers = 0
        self._run = secrets.token_hex(8)

    @classmethod
    @asynccontextmanager
    async def open(cls, plan: Plan) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            proxies = [
                await stack.enter_async_context(LossyProxy.to(url, str(plan.seed)))
                for url in (plan.urls if "cut" in plan.faults else ())
            ]
            bus = None if plan.bus is None else await stack.enter_async_context(BusProxy.to(plan.bus))
            recorder = cls(plan, proxies, bus, stack)
            stack.push_async_callback(recorder._close)
            recorder._workers = list(
                await asyncio.gather(*(recorder._start_worker() for _ in range(plan.processes)))
            )
            yield recorder

    async def _start_worker(self) -> Worker:
        url = self._urls[self._started % len(self._urls)]
        self._started += 1
        return await (await Worker.start(url, self._options)).ready()

    async def _close(self) -> None:
        if self._spare:
            self._workers.append(await self._spare)
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def record(self, index: int) -> list[History]:
        """Histories of the same time, each on ids of its own."""
        plan = self.plan
        events: list[dict[str, Any]] = []
        self._numbers = 0
        task = {
            "histories": [
                {
                    "ids": [f"{self._run} {index} {place} {number}" for number in range(plan.ids)],
                    "seed": f"{plan.seed} {index} {place}",
                }
                for place in range(plan.together)
            ],
            "habits": asdict(self._habits()),
        }
        if "kill" in plan.faults and self._spare is None:
            self._spare = asyncio.create_task(self._start_worker())
            await asyncio.wait({self._spare})
        for proxy in self._proxies:
            proxy.rate = CUT_RATE
        lost = sum(proxy.lost for proxy in self._proxies)
        playing = [self._play(place, task, events) for place in range(plan.processes)]
        breaking = [asyncio.create_task(work) for work in self._breaking(index, events)]
        try:
            await asyncio.gather(*playing)
        finally:
            for proxy in self._proxies:
                proxy.rate = 0.0
            for work in breaking:
                if not work.done():
                    work.cancel()
            results = await asyncio.gather(*breaking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self._proxies:
            self.faults["cut"] += sum(proxy.lost for proxy in self._proxies) - lost
        by_history: list[list[dict[str, Any]]] = [[] for _ in range(plan.together)]
        for event in events:
            by_history[event.pop("history")].append(event)
        faults = " ".join(sorted(plan.faults)) or "none"
        return [
            History.of(
                part,
                cancelled_end=not plan.loses_connections,
                note=f"faults {faults}, seed {plan.seed}, history {index} {place}",
            )
            for place, part in enumerate(by_history)
        ]

    def _habits(self) -> Habits:
        if "cancel" not in self.plan.faults:
            return self.plan.habits
        return replace(self.plan.habits, cancelled=CANCELLED)

    async def _play(self, place: int, task: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """Let the worker at a place play, and its successors if it is killed."""
        while True:
            worker = self._workers[place]
            numbers = range(self._numbers, self._numbers + self.plan.clients)
            self._numbers = numbers.stop
            self.reads.update(await worker.play(task | {"clients": [*numbers]}, events))
            if not worker.killed:
                return
            # There is none if one was also killed as it had come to the end of the history before.
            spare, self._spare = self._spare or asyncio.create_task(self._start_worker()), None
            self._workers[place] = await spare

    def _breaking(self, index: int, events: list[dict[str, Any]]) -> list[Any]:
        chance = random.Random(f"{self.plan.seed} {index} faults")
        kinds: dict[str, Callable[[random.Random, list[dict[str, Any]]], Awaitable[None]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "bus": self._break_bus,
            "server": self._kill_server,
        }
        return [kinds[fault](chance, events) for fault in sorted(self.plan.faults) if fault in kinds]

    async def _underway(self, chance: random.Random, events: list[dict[str, Any]]) -> None:
        """Wait until a random part of the history is over."""
        plan = self.plan
        calls = plan.together * plan.processes * plan.clients * plan.habits.operations
        part = 2 * calls * chance.uniform(0.05, 0.7)
        while len(events) < part:
            await asyncio.sleep(0.002)

    async def _kill(self, chance: random.Random, events: list[dict[str, Any]]) -> None:
        await self._underway(chance, events)
        await chance.choice(self._workers).kill()
        self.faults["kill"] += 1

    async def _stop(self, chance: random.Random, events: list[dict[str, Any]]) -> None:
        while True:
            await asyncio.sleep(chance.uniform(0.01, 0.3))
            self.faults["stop"] += 1
            await chance.choice(self._workers).pause(chance.uniform(0.01, 0.3))

    async def _break_bus(self, chance: random.Random, events: list[dict[str, Any]]) -> None:
        assert self._bus is not None
        while True:
            await asyncio.sleep(chance.uniform(0.05, 0.8))
            self.faults["bus"] += 1
            await self._bus.fail(chance)

    async def _kill_server(self, chance: random.Random, events: list[dict[str, Any]]) -> None:
        await self._underway(chance, events)
        await asyncio.shield(asyncio.create_task(self._restart(chance)))

    async def _restart(self, chance: random.Random) -> None:
        server = chance.choice(self.plan.servers)
        await asyncio.to_thread(server.kill)
        self.faults["server"] += 1
        await asyncio.sleep(chance.uniform(0, DOWN))
        await asyncio.to_thread(server.start)
