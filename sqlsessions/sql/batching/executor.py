"""Executor of batches: sends small operations as many at once as are queued, and answers each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from ..._tasks import finish
from ..._versions import KnownVersions
from ...errors import SessionError
from ..engine.database import Database
from ..engine.engines import LoopState
from ..engine.retry import pause, translated
from ..statements import transactions
from ..statements.single import Part
from .batch import Batch, fail
from .driver import Driver
from .operations import Operation, Read, Row, Turn, Write, are_of_one_kind, parted
from .queue import BatchQueue

T = TypeVar("T")


class Queues(NamedTuple):
    """The queues of one event loop."""

    reads: BatchQueue[Read]
    changes: BatchQueue[Operation]


class BatchExecutor:
    """Carries out reads and changes of small sessions, as many at once as are queued.

    A batch that fails is tried again; if one operation may be the reason, each is tried alone, so that it
    fails alone. If another transaction has locked a row, the operations on such rows wait aside until it lets go, and
    the others go on. What was sent over a connection that was lost is resolved before it is sent again.

    Args:
        database: Where the sessions are.
        driver: Carries the batches out.
        now: Gives the time.

    Attributes:
        known: The versions that sessions were last seen with.
    """

    def __init__(self, database: Database, driver: Driver[Any], now: Callable[[], int]) -> None:
        self.known = KnownVersions()
        self._now = now
        self._database = database
        self._driver = driver

    @property
    def queued(self) -> tuple[int, int]:
        """How many reads and how many changes wait for their batch, of all event loops."""
        found: list[Queues] = [
            state.queues[self] for state in self._database.engines.states() if self in state.queues
        ]
        return sum(each.reads.waiting for each in found), sum(each.changes.waiting for each in found)

    def read(self, digest: bytes, part: Part) -> Awaitable[Row | None]:
        """See `Read`."""
        state = self._database.engines.known_state()
        if state is None or (queues := state.queues.get(self)) is None:
            return self._enter(lambda queues: queues.reads.submit(Read(digest, part)))
        return queues.reads.submit(Read(digest, part))  # type: ignore[no-any-return]

    def change(self, change: Operation) -> Awaitable[Any]:
        """See the classes of changes."""
        state = self._database.engines.known_state()
        if state is None or (queues := state.queues.get(self)) is None:
            return self._enter(lambda queues: queues.changes.submit(change))
        return queues.changes.submit(change)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def turn(self, *digests: bytes) -> AsyncIterator[None]:
        """Change sessions other than by a batch: in the block, after earlier changes and before later ones."""
        changes = (await self._queues()).changes
        turns = [Turn(digest) for digest in set(digests)]
        for turn in turns:
            changes.enter(turn)
        try:
            for turn in turns:
                await turn.future
            with self._under_way():
                yield
        finally:
            for turn in turns:
                changes.leave(turn)

    @contextmanager
    def finishing(self, kept: Operation) -> Iterator[None]:
        """Do in the block what is left of an operation that is kept, before later changes of its session."""
        try:
            with self._under_way() as state:
                yield
        finally:
            state.queues[self].changes.leave(kept)

    @contextmanager
    def _under_way(self) -> Iterator[LoopState]:
        """Let closing wait for the block, and so for what waits for its end."""
        state = self._database.engines.state()
        ended = state.loop.create_future()
        state.tasks.add(ended)
        try:
            yield state
        finally:
            state.tasks.discard(ended)
            ended.set_result(None)

    async def _enter(self, submit: Callable[[Queues], Awaitable[T]]) -> T:
        return await submit(await self._queues())

    async def _queues(self) -> Queues:
        """The queues of the running event loop, which its first operation opens."""
        state = await self._database.engines.enter()
        if self not in state.queues:
            state.queues[self] = self._open_queues(state)
        queues: Queues = state.queues[self]
        return queues

    def _open_queues(self, state: LoopState) -> Queues:
        spawn = self._database.engines.spawn
        # SQLite runs in a thread of this process: two batches at once would wait for each other.
        most = 1 if self._database.dialect.serial or state.one_connection else 2
        queue = partial(
            BatchQueue, max_concurrent_batches=most, spawn=spawn, patience=self._database.patience
        )
        return Queues(
            queue(
                partial(self._run, writes=False),
                ordered=False,
                alone=self._read_alone if self._driver.inline_reads else None,
                free=lambda: bool(state.kept_idle),
                expired=partial(self._expired, writes=False),
            ),
            queue(self._run_changes, ordered=True, expired=partial(self._expired, writes=True)),
        )

    def _expired(self, operation: Operation, *, writes: bool) -> Exception:
        """The error of an operation that is not under way, and was not tried again in time."""
        return translated(self._database.dialect, TimeoutError(), in_doubt=operation.in_doubt and writes)

    async def _read_alone(self, read: Read) -> Row | None:
        """The most common operation in its caller's own task; if it fails, a batch of one goes on with it.

        If it is cancelled, its connection is dropped, but for a driver with a thread that finishes what it began.
        """
        if self._database.observer is not None:
            self._database.observer.batch(1, writes=False)
        try:
            async with self._driver.checkout(writes=False) as connection:
                [row] = await self._driver.read(connection, (read,))
        except Exception as error:  # noqa: BLE001 (the batch begins with it)
            failed = error.with_traceback(None)  # whose frames will be cleared; this one has yet to go on
        else:
            if row is not None:
                self.known.note(read.digest, row[1])
            return row
        read.future = asyncio.get_running_loop().create_future()
        mend = partial(self._run, (read,), writes=False, failed=failed)
        await finish(self._database.engines.spawn(mend), may_abandon=lambda: True)
        return await read.future  # type: ignore[no-any-return]

    def _run_changes(self, changes: Sequence[Operation]) -> Awaitable[None]:
        one_part = self._database.dialect.serial or are_of_one_kind(changes)
        return self._run(changes, writes=True) if one_part else self._run_parts(changes)

    async def _run_parts(self, changes: Sequence[Operation]) -> None:
        for change in changes:
            if isinstance(change, Write):
                change.before = self.known.get(change.digest)
        # What makes rows goes by itself, in the order of their ids: it may have to wait for another who makes them,
        # and holds nothing then that comes later in that order. All else waits before it does anything.
        parts = parted(changes)
        if len(parts) == 1:
            await self._run(parts[0], writes=True)
            return
        queue: BatchQueue[Operation] = self._database.engines.state().queues[self].changes
        with queue.in_parts(len(parts)):
            spawn = self._database.engines.spawn  # so that closing waits for them
            await asyncio.gather(*(spawn(partial(self._run, part, writes=True)) for part in parts))

    async def _run(
        self,
        operations: Sequence[Any],
        *,
        writes: bool,
        retry_for: float | None = None,
        aside: bool = False,
        failed: Exception | None = None,
    ) -> None:
        """Answer every operation, with its result or its error, but for those that wait aside.

        Args:
            operations: The batch.
            writes: Whether they are changes.
            retry_for: Seconds for which to try; None is the storage's.
            aside: Whether they wait aside already.
            failed: The error of a first attempt, if that has been made.
        """
        if self._database.observer is not None and failed is None:
            self._database.observer.batch(len(operations), writes=writes)
        batch = Batch(
            self._database,
            self._driver,
            self.known,
            self._now,
            operations,
            writes=writes,
            retry_for=retry_for,
            failed=failed,
        )
        try:
            await batch.run()
            if batch.locked is None:
                for operation in batch.left:
                    await self._run([operation], writes=writes, retry_for=0.0, aside=aside)
            elif not aside:
                await self._part(batch.left, batch.locked)
        except Exception as error:
            for operation in operations:
                fail(operation, error)
            raise
        finally:
            batch.done.set_result(None)

    async def _part(self, operations: Sequence[Operation], error: Exception) -> None:
        """Carry out operations of which some met a locked row, and let those wait aside."""
        try:
            locked = await self._locked(operations)
        except SessionError as failure:
            for operation in operations:
                fail(operation, failure)
            return
        if not locked and len(operations) == 1:  # by a transaction that makes the row
            locked = {operations[0].digest}
        aside = [operation for operation in operations if operation.digest in locked]
        others = [operation for operation in operations if operation.digest not in locked]
        if aside:
            for operation in aside:
                operation.aside = True
            self._database.engines.spawn(partial(self._wait_aside, aside, error))
        for some in [others] if locked else [[operation] for operation in others]:
            if some:
                await self._run(some, writes=True)

    async def _wait_aside(self, operations: Sequence[Operation], error: Exception) -> None:
        """Carry out operations once no other transaction has locked their rows, or their time is over."""
        changes: BatchQueue[Operation] = self._database.engines.state().queues[self].changes
        tries, patience = 0, self._database.patience
        while operations:
            await asyncio.sleep(pause(tries))
            tries += 1
            try:
                locked = await self._locked(operations)
                for part in parted([each for each in operations if each.digest not in locked]):
                    await self._run(part, writes=True, aside=True)
            except Exception as failure:  # noqa: BLE001 (their callers get it)
                for operation in operations:
                    fail(operation, failure)
            for operation in operations:
                if patience is not None and operation.submitted + patience < monotonic():
                    doubt = operation.in_doubt
                    fail(operation, translated(self._database.dialect, error, in_doubt=doubt))
            ended = [operation for operation in operations if operation.future.done()]
            operations = [operation for operation in operations if not operation.future.done()]
            for operation in ended:
                operation.aside = False
            changes.end_turns(ended)

    async def _locked(self, operations: Sequence[Operation]) -> set[bytes]:
        digests = [operation.digest for operation in operations]
        return await self._database.run(partial(transactions.locked_by_others, digests=digests))
