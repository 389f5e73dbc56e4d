"""Executor of batches: sends small operations as many at once as are queued, and answers each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple, TypeVar

from ...errors import StorageUnavailable
from ..dialects import ErrorKind
from ..engine.database import Database
from ..engine.engines import LoopState
from ..engine.retry import Attempts, raise_translated, translated
from ..statements import in_doubt
from .driver import Driver
from .operations import Delete, Operation, Read, Row, Write
from .queue import BatchQueue

T = TypeVar("T")


class Queues(NamedTuple):
    """The queues of one event loop."""

    reads: BatchQueue[Read]
    changes: BatchQueue[Operation]


class BatchExecutor:
    """Carries out reads and changes of small sessions, as many at once as are queued.

    A batch that fails is tried again; if one operation may be the reason, each is tried alone, so that it
    fails alone. What was sent over a connection that was lost is resolved before it is sent again.

    Args:
        database: Where the sessions are.
        driver: Carries the batches out.
    """

    def __init__(self, database: Database, driver: Driver[Any]) -> None:
        self._database = database
        self._driver = driver

    @property
    def queued(self) -> tuple[int, int]:
        """How many reads and how many changes wait for their batch, of all event loops."""
        found: list[Queues] = [
            state.queues[self] for state in self._database.engines.states() if self in state.queues
        ]
        return sum(each.reads.waiting for each in found), sum(each.changes.waiting for each in found)

    def read(self, digest: bytes, *, data: bool) -> Awaitable[Row | None]:
        """See `Read`."""
        state = self._database.engines.known_state()
        if state is None or (queues := state.queues.get(self)) is None:
            return self._enter(lambda queues: queues.reads.submit(Read(digest, data=data)))
        return queues.reads.submit(Read(digest, data=data))  # type: ignore[no-any-return]

    def change(self, change: Operation) -> Awaitable[Any]:
        """See the classes of changes."""
        state = self._database.engines.known_state()
        if state is None or (queues := state.queues.get(self)) is None:
            return self._enter(lambda queues: queues.changes.submit(change))
        return queues.changes.submit(change)  # type: ignore[no-any-return]

    async def _enter(self, submit: Callable[[Queues], Awaitable[T]]) -> T:
        """Submit the first operation of an event loop, which opens its queues."""
        state = await self._database.engines.enter()
        if self not in state.queues:
            state.queues[self] = self._open_queues(state)
        return await submit(state.queues[self])

    def _open_queues(self, state: LoopState) -> Queues:
        spawn = self._database.engines.spawn
        # SQLite runs in a thread of this process: two batches at once would wait for each other.
        most = 1 if self._database.dialect.serial or state.one_connection else 2
        alone = self._read_alone if self._driver.inline_reads else None
        return Queues(
            BatchQueue(self._run_reads, max_concurrent_batches=most, ordered=False, spawn=spawn, alone=alone),
            BatchQueue(self._run_changes, max_concurrent_batches=most, ordered=True, spawn=spawn),
        )

    async def _read_alone(self, read: Read) -> Row | None:
        """The most common operation in its caller's own task; if it fails, the batch of one mends it."""
        if self._database.observer is not None:
            self._database.observer.batch(1, writes=False)
        connected = False
        try:
            async with self._driver.checkout(writes=False) as connection:
                connected = True
                [row] = await self._driver.read(connection, (read,))
        except Exception as error:  # noqa: BLE001 (an error that stays is met again)
            if not connected:
                raise_translated(self._database.dialect, error)
            await self._run_reads((read,))
            row = await read.future
        return row

    async def _run_reads(self, reads: Sequence[Read]) -> None:
        await self._run(reads, writes=False)

    async def _run_changes(self, changes: Sequence[Operation]) -> None:
        await self._run(changes, writes=True)

    async def _run(self, operations: Sequence[Any], *, writes: bool, retry_for: float | None = None) -> None:
        """Answer every operation, with its result or its error."""
        if self._database.observer is not None:
            self._database.observer.batch(len(operations), writes=writes)
        batch = _Batch(self._database, self._driver, operations, writes=writes, retry_for=retry_for)
        try:
            await batch.run()
            for operation in batch.left:
                await self._run([operation], writes=writes, retry_for=0.0)
        except Exception as error:
            for operation in operations:
                _fail(operation, error)
            raise
        finally:
            batch.done.set_result(None)


class _Batch:
    """One batch on its way through its attempts.

    Attributes:
        done: Done when every operation is answered.
        left: Operations that are still to be answered.
    """

    def __init__(
        self,
        database: Database,
        driver: Driver[Any],
        operations: Sequence[Any],
        *,
        writes: bool,
        retry_for: float | None,
    ) -> None:
        self._database = database
        self._driver = driver
        self._writes = writes
        retry_for = database.retry_for if retry_for is None else retry_for
        self._attempts = Attempts(database.dialect, retry_for, database.notify_retry)
        self.done = asyncio.get_running_loop().create_future()
        self.left = list(operations)

    async def run(self) -> None:
        """Answer the operations, but for those that are better tried alone."""
        try:
            await self._attempts.run(self._attempt)
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            if not self._one_may_be_bad():
                self._fail_all(error)

    async def _attempt(self) -> None:
        if self._attempts.in_doubt and self._writes:
            await self._resolve()
        try:
            async with self._driver.checkout(writes=self._writes) as connection:
                self._attempts.connected = True
                self._claim()
                carry_out = self._driver.write if self._writes else self._driver.read
                results = await carry_out(connection, self.left) if self.left else []
        except Exception as error:
            if self._attempts.connected and self._database.dialect.error_kind(error) is ErrorKind.LOST:
                for operation in self.left:
                    operation.in_doubt = True
            raise
        if self._attempts.in_doubt and self._writes:
            results = await self._with_late_ends(results)
        # Only now that the connection is back in the pool: callers hold nothing on return.
        for operation, result in zip(self.left, results, strict=True):
            _answer(operation, result)
        self.left = []

    def _claim(self) -> None:
        """Leave out operations whose callers left while there was no connection; now they cannot any more."""
        self.left = [operation for operation in self.left if not operation.future.done()]
        for operation in self.left:
            operation.batch_done = self.done

    async def _resolve(self) -> None:
        """Answer the operations that took effect although the reply was lost, and leave the others."""
        wanted = [operation for operation in self.left if isinstance(operation, (Write, Delete))]
        if not wanted:
            return  # touches are idempotent
        versions = {operation.digest: operation.version for operation in wanted}
        async with self._database.connection(writes=False) as connection:
            found = await in_doubt.look(connection, versions)
        for operation in wanted:
            seen = found[operation.digest]
            try:
                if isinstance(operation, Delete):
                    if seen.has_ended(operation.version):
                        _answer(operation, True)
                elif (record := seen.written(operation.version)) is not None:
                    _answer(operation, (operation.digest, *astuple(record)))
            except StorageUnavailable as error:
                _fail(operation, error)
        self.left = [operation for operation in self.left if not operation.future.done()]

    async def _with_late_ends(self, results: list[Any]) -> list[Any]:
        """The results, where an end that was in doubt came to its end while it was done again."""
        versions = {
            operation.digest: operation.version
            for operation, result in zip(self.left, results, strict=True)
            if isinstance(operation, Delete) and operation.in_doubt and not result
        }
        if not versions:
            return results
        async with self._database.connection(writes=False) as connection:
            found = await in_doubt.look(connection, versions)
        return [
            found[operation.digest].has_ended(operation.version) if operation.digest in versions else result
            for operation, result in zip(self.left, results, strict=True)
        ]

    def _one_may_be_bad(self) -> bool:
        """Whether each operation is better tried alone, so that a bad one spoils no other.

        A serial database refuses all of them for the same reason: each would wait for it again.
        """
        failure = self._attempts.failure
        return (
            len(self.left) > 1
            and self._attempts.connected
            and (
                failure is ErrorKind.OTHER
                or (failure is ErrorKind.RETRY and not self._database.dialect.serial)
            )
        )

    def _fail_all(self, error: Exception) -> None:
        for operation in self.left:
            doubt = operation.in_doubt and self._writes
            _fail(operation, translated(self._database.dialect, error, in_doubt=doubt))
        self.left = []


def _answer(operation: Operation, result: Any) -> None:
    if operation.future.done():  # its caller has left
        return
    if isinstance(operation, Write) and result is not None and result[1] != operation.version:
        result = None
    operation.future.set_result(result)


def _fail(operation: Operation, error: Exception) -> None:
    if not operation.future.done():
        operation.future.set_exception(error)
