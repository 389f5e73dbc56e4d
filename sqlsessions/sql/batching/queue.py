"""Batching: operations queued while a connection is busy are sent as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from ..._tasks import wait_although_cancelled
from .operations import Operation

MAX_BATCH = 256  # operations
MIN_SHARE = 16  # operations; fewer are not worth a statement of their own
MAX_BATCH_BYTES = 2 * 1024 * 1024
MAX_QUEUE = 8192  # operations; a caller waits for room while there are more

O = TypeVar("O", bound=Operation)  # noqa: E741
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], asyncio.Task[None]]


class BatchQueue(Generic[O]):
    """A queue of operations and the few batches that carry them.

    A lone operation is sent at once. In an ordered queue, operations on one session take effect in
    the order in which they were submitted: no two of them are under way at the same time.

    Args:
        run: Runs a batch and answers each of its operations; never raises.
        max_concurrent_batches: How many batches may be under way at the same time.
        ordered: Whether operations on one session must not overlap.
        alone: Carries out a lone operation in the caller's own task, if that is safe: cancelling it must
            do no harm.
        spawn: Starts a task that outlives its caller.
    """

    def __init__(
        self,
        run: Callable[[list[O]], Awaitable[None]],
        *,
        max_concurrent_batches: int,
        ordered: bool,
        spawn: Spawn,
        alone: Callable[[O], Awaitable[Any]] | None = None,
    ) -> None:
        self._run = run
        self._max_concurrent_batches = max_concurrent_batches
        self._ordered = ordered
        self._spawn = spawn
        self._alone = alone
        self._queue: deque[O] = deque()
        self._room = asyncio.Condition()
        self._blocked_callers = 0
        self._workers = 0
        self._running = 0
        self._under_way: set[bytes] = set()

    @property
    def waiting(self) -> int:
        """How many operations wait for a batch."""
        return len(self._queue)

    async def submit(self, operation: O) -> Any:
        """Carry out an operation and give its result.

        A caller that is cancelled takes its operation back if it waits, and waits for its end if it is
        under way: nothing of it takes effect after the call.
        """
        if self._alone and not self._workers and not self._queue:
            return await self._run_alone(operation, self._alone)
        if len(self._queue) >= MAX_QUEUE:
            await self._wait_for_room()
        self._queue.append(operation)
        self._start_worker()
        try:
            return await operation.future
        except asyncio.CancelledError:
            if operation.batch_done is not None:
                await wait_although_cancelled(operation.batch_done)
            raise

    async def _wait_for_room(self) -> None:
        self._blocked_callers += 1
        try:
            async with self._room:
                await self._room.wait_for(lambda: len(self._queue) < MAX_QUEUE)
        finally:
            self._blocked_callers -= 1

    async def _run_alone(self, operation: O, alone: Callable[[O], Awaitable[Any]]) -> Any:
        """Carry out a lone operation in the caller's own task, which saves two turns of the loop."""
        self._workers += 1
        try:
            return await alone(operation)
        finally:
            self._workers -= 1
            if self._queue and not self._workers:
                self._start_worker()

    def _start_worker(self) -> None:
        if self._workers < self._max_concurrent_batches:
            self._workers += 1
            self._spawn(self._work)

    async def _work(self) -> None:
        try:
            while True:
                batch = self._take()
                if self._blocked_callers:  # also where every caller in the queue was cancelled
                    async with self._room:
                        self._room.notify_all()
                if not batch:
                    break
                self._running += 1
                try:
                    await self._run(batch)
                finally:
                    self._running -= 1
                    if self._ordered:
                        self._under_way.difference_update(operation.digest for operation in batch)
                await asyncio.sleep(0)  # callers just answered may submit more, for the same batch
        finally:
            self._workers -= 1

    def _take(self) -> list[O]:
        """The next batch: at most one operation of each session, if the queue is ordered.

        The queue is shared evenly with the batches that can be under way beside it: the database works
        on one of them while this process answers another.
        """
        most, free = MAX_BATCH, self._max_concurrent_batches - self._running
        if free > 1 and len(self._queue) >= 2 * MIN_SHARE:
            most = min(MAX_BATCH, -(-len(self._queue) // free))
            self._start_worker()
        if not self._ordered and len(self._queue) <= most:
            waiting = [operation for operation in self._queue if not operation.future.done()]
            self._queue.clear()
            return waiting
        batch: list[O] = []
        blocked: list[O] = []
        size = 0
        while self._queue and len(batch) < most and size < MAX_BATCH_BYTES:
            operation = self._queue.popleft()
            if operation.future.done():
                continue
            if self._ordered and operation.digest in self._under_way:
                blocked.append(operation)
            else:
                if self._ordered:
                    self._under_way.add(operation.digest)
                batch.append(operation)
                size += operation.size
        self._queue.extendleft(reversed(blocked))
        return batch
