"""Batching: operations queued while a connection is busy are sent as one batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from time import monotonic
from typing import Any, Generic, TypeVar

from ..._tasks import wait_although_cancelled
from .operations import Operation, Turn

MAX_BATCH = 256  # operations
MIN_SHARE = 16  # operations; fewer are not worth a statement of their own
MAX_BATCH_BYTES = 2 * 1024 * 1024
COUNTS_FOR = 0.01  # seconds; what takes longer waits for something, and others need not
LOOK_EVERY = 1.0  # seconds, at most; for operations that have waited for too long

O = TypeVar("O", bound=Operation)  # noqa: E741
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], asyncio.Task[None]]


class BatchQueue(Generic[O]):
    """A queue of operations and the few batches that carry them, of the running event loop.

    A lone operation is sent at once. In an ordered queue, operations on one session have turns, in the order in which
    they were submitted: one whose turn it is goes into the next batch, and the others wait in a line of the session's
    own, out of the way of other sessions. The turn ends with the batch, or if the operation is kept, when its caller
    leaves.

    Args:
        run: Runs a batch and answers each of its operations; never raises.
        max_concurrent_batches: How many batches may be under way at the same time; see `beside`.
        ordered: Whether operations on one session have turns.
        alone: Carries out a lone operation in the caller's own task, if that is safe: cancelling it must
            do no harm.
        free: Whether it need not wait for a connection.
        patience: Seconds after which an operation that is not under way by then fails; None lets it wait.
        expired: Gives its error.
        spawn: Starts a task that outlives its caller.

    Attributes:
        waiting: How many operations wait for a batch or for their turn.
        beside: How many statements are under way beside one of each batch. For a moment they count as batches: many small
            ones would take more of the database, and of a crowd's patience, than few that wait to be larger.
    """

    def __init__(
        self,
        run: Callable[[list[O]], Awaitable[None]],
        *,
        max_concurrent_batches: int,
        ordered: bool,
        spawn: Spawn,
        expired: Callable[[O], Exception],
        patience: float | None = None,
        alone: Callable[[O], Awaitable[Any]] | None = None,
        free: Callable[[], bool] = lambda: True,
    ) -> None:
        self.waiting = self.beside = 0
        self._new_future = asyncio.get_running_loop().create_future
        self._run = run
        self._max_concurrent_batches = max_concurrent_batches
        self._ordered = ordered
        self._spawn = spawn
        self._alone = alone
        self._free = free
        self._ready: deque[O] = deque()
        self._lines: dict[bytes, deque[O] | None] = {}  # of the sessions with an operation whose turn it is
        self._batches: list[list[O]] = []  # under way
        self._workers = 0
        self._taking = False  # whether one of them is about to take what is ready
        self._patience = patience
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None

    async def submit(self, operation: O) -> Any:
        """Carry out an operation and give its result.

        A caller that is cancelled takes its operation back if it waits, and waits for its end if it is
        under way: nothing of it takes effect after the call.
        """
        if self._alone and not self._workers and not self._ready and self._free():
            return await self._run_alone(operation, self._alone)
        self.enter(operation)
        try:
            return await operation.future
        except asyncio.CancelledError:
            while operation.batch_done is not None and not operation.batch_done.done():
                await wait_although_cancelled(operation.batch_done)
            self.leave(operation)
            raise

    def enter(self, operation: O) -> None:
        """Let an operation wait for its turn and its batch."""
        operation.future = self._new_future()
        self.waiting += 1
        if self._timer is None:
            self._look_later()
        if self._ordered:
            lines, digest = self._lines, operation.digest
            if digest in lines:
                if (line := lines[digest]) is None:
                    lines[digest] = line = deque()
                line.append(operation)
                return
            lines[digest] = None
            self._admit(operation)
        else:
            self._ready.append(operation)
            if not self._taking:
                self._start_worker()

    def leave(self, operation: O) -> None:
        """End the turn of an operation that is kept; take back one whose turn did not come."""
        if operation.kept:
            operation.kept = False
            if operation.carried:
                self._next(operation.digest)
        elif not operation.future.cancel() and not operation.future.cancelled():
            operation.future.exception()  # of which its caller, who left, need not hear

    def _admit(self, operation: O) -> None:
        """Begin an operation's turn."""
        if isinstance(operation, Turn):
            self.waiting -= 1
            operation.kept = True
            operation.future.set_result(None)
        else:
            self._ready.append(operation)
            if not self._taking:
                self._start_worker()

    def _next(self, digest: bytes) -> None:
        """Begin the turn of a session's next operation."""
        line = self._lines[digest]
        while line:
            operation = line.popleft()
            if not operation.future.done():
                self._admit(operation)
                return
            self.waiting -= 1
        del self._lines[digest]

    async def _run_alone(self, operation: O, alone: Callable[[O], Awaitable[Any]]) -> Any:
        """Carry out a lone operation in the caller's own task, which saves two turns of the loop."""
        self._workers += 1
        try:
            return await alone(operation)
        finally:
            self._workers -= 1
            self._go_on()

    def _start_worker(self) -> None:
        if self._workers + self.beside < self._max_concurrent_batches:
            self._workers += 1
            self._taking = True
            self._spawn(self._work)

    async def _work(self) -> None:
        try:
            while batch := self._take():
                self._batches.append(batch)
                try:
                    await self._run(batch)
                finally:
                    self._batches.remove(batch)
                    self._taking = True
                    if self._ordered:
                        self.end_turns(batch)
                await asyncio.sleep(0)  # callers just answered may submit more, for the same batch
                if self._workers + self.beside > self._max_concurrent_batches:
                    break
        finally:
            self._workers -= 1
            self._taking = False

    @contextmanager
    def in_parts(self, number: int) -> Iterator[None]:
        """Let a batch that is carried out in parts, in the block, count as so many, while it takes no longer than others."""
        beside = number - 1
        self.beside += beside

        def release() -> None:
            nonlocal beside
            self.beside -= beside
            beside = 0
            self._go_on()

        timer = asyncio.get_running_loop().call_later(COUNTS_FOR, release)
        try:
            yield
        finally:
            timer.cancel()
            release()

    def _go_on(self) -> None:
        if self._ready and not self._taking:
            self._start_worker()

    def end_turns(self, batch: Iterable[O]) -> None:
        """End the turns of operations that were carried out, but for those that are kept, go on, or wait aside."""
        for operation in batch:
            if operation.again:
                operation.again = False
                self.waiting += 1
                self._ready.appendleft(operation)
            elif not operation.aside:
                operation.carried = True
                if not operation.kept:
                    self._next(operation.digest)

    def _look_later(self) -> None:
        if self._patience is not None:
            pause = min(LOOK_EVERY, self._patience / 8)
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Answer what has waited for too long, and drop what has been answered."""
        self._timer = None
        if not self.waiting and not self._batches:
            return
        self._look_later()
        assert self._patience is not None
        before = monotonic() - self._patience
        lines = [line for line in self._lines.values() if line]
        for operation in chain(self._ready, *lines, *self._batches):
            if operation.submitted <= before and not operation.sent and not operation.future.done():
                operation.future.set_exception(self._expired(operation))
        for waiting in (*lines, self._ready):
            for _ in range(len(waiting)):
                operation = waiting.popleft()
                if not operation.future.done():
                    waiting.append(operation)
                else:
                    self.waiting -= 1
                    if self._ordered and waiting is self._ready:
                        self._next(operation.digest)

    def _take(self) -> list[O]:
        """The next batch: at most one operation of each session, if the queue is ordered.

        The queue is shared evenly with the batches that can be under way beside it: the database works
        on one of them while this process answers another.
        """
        self._taking = False
        ready = self._ready
        most, free = MAX_BATCH, self._max_concurrent_batches - len(self._batches) - self.beside
        if free > 1 and len(ready) >= 2 * MIN_SHARE:
            most = min(MAX_BATCH, -(-len(ready) // free))
        if not self._ordered and len(ready) <= most:
            waiting = [operation for operation in ready if not operation.future.done()]
            self.waiting = 0
            ready.clear()
            return waiting
        batch: list[O] = []
        size = 0
        while ready and len(batch) < most and size < MAX_BATCH_BYTES:
            operation = ready.popleft()
            self.waiting -= 1
            if not operation.future.done():
                batch.append(operation)
                size += operation.size
            elif self._ordered:
                self._next(operation.digest)
        if ready:
            self._start_worker()
        return batch
