"""Small operations in batches: tried again, settled or taken one by one when a batch fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any, TypeVar

from ...errors import SessionError, StorageUnavailable
from ..dialects import ErrorKind
from ..engine.database import Database
from ..engine.retry import UNKNOWN, Backoff, raise_translated, translated
from ..statements import in_doubt
from .driver import Driver
from .operations import Delete, Operation, Read, Row, Write
from .queue import BatchQueue

T = TypeVar("T")


class BatchExecutor:
    """Carries out reads and changes of small sessions, as many at once as are waiting.

    Args:
        database: Where the sessions are.
        driver: Carries the batches out.
    """

    def __init__(self, database: Database, driver: Driver[Any]) -> None:
        self._database = database
        self._driver = driver
        self._queues: dict[asyncio.AbstractEventLoop, tuple[BatchQueue[Read], BatchQueue[Operation]]] = {}

    @property
    def queued(self) -> tuple[int, int]:
        """How many reads and how many changes wait for their batch, of all event loops."""
        queues = list(self._queues.values())
        return sum(reads.waiting for reads, _ in queues), sum(changes.waiting for _, changes in queues)

    def read(self, digest: bytes, *, data: bool) -> Awaitable[Row | None]:
        """See `Read`."""
        queues = self._queues.get(asyncio.get_running_loop())
        if queues is None or self._database.closed:
            return self._first(lambda queues: queues[0].submit(Read(digest, data=data)))
        return queues[0].submit(Read(digest, data=data))

    def change(self, change: Operation) -> Awaitable[Any]:
        """See the classes of changes."""
        queues = self._queues.get(asyncio.get_running_loop())
        if queues is None or self._database.closed:
            return self._first(lambda queues: queues[1].submit(change))
        return queues[1].submit(change)

    async def _first(
        self, submit: Callable[[tuple[BatchQueue[Read], BatchQueue[Operation]]], Awaitable[T]]
    ) -> T:
        """The first operation of an event loop opens its queues."""
        loop = (await self._database.enter()).loop
        for closed in [known for known in self._queues if known.is_closed()]:
            del self._queues[closed]
        if loop not in self._queues:
            spawn = self._database.spawn
            # SQLite runs in a thread of this process: two batches at once would wait for each other.
            slots = 1 if self._database.dialect.serial else 2
            alone = self._read_alone if self._driver.inline_reads else None
            self._queues[loop] = (
                BatchQueue(
                    self._run_reads, max_concurrent_batches=slots, ordered=False, spawn=spawn, alone=alone
                ),
                BatchQueue(self._run_changes, max_concurrent_batches=slots, ordered=True, spawn=spawn),
            )
        return await submit(self._queues[loop])

    async def _read_alone(self, read: Read) -> Row | None:
        """The most common operation with the least ado; the long way mends what goes wrong."""
        if self._database.observer is not None:
            self._database.observer.batch(1, writes=False)
        connected = False
        try:
            async with self._driver.connected(writes=False) as connection:
                connected = True
                [row] = await self._driver.read(connection, (read,))
        except Exception as error:  # noqa: BLE001 (the long way meets it again, if it is to stay)
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
        flight = asyncio.get_running_loop().create_future()
        backoff = Backoff(self._database.retry_for if retry_for is None else retry_for)
        try:
            await self._attempts(operations, flight, backoff, writes=writes)
        except Exception as error:
            for operation in operations:
                _fail(operation, error)
            raise
        finally:
            flight.set_result(None)

    async def _attempts(
        self, operations: Sequence[Any], flight: asyncio.Future[None], backoff: Backoff, *, writes: bool
    ) -> None:
        carry_out = self._driver.write if writes else self._driver.read
        waiting: list[Any] = list(operations)
        while waiting:
            connected = False
            try:
                async with self._driver.connected(writes=writes) as connection:
                    connected = True
                    waiting = _claim(waiting, flight)
                    results = await carry_out(connection, waiting) if waiting else []
            except Exception as error:  # noqa: BLE001 (each caller gets it)
                fault = self._database.dialect.fault(error)
                lost = connected and fault is ErrorKind.LOST
                for operation in waiting if lost else ():
                    operation.unknown = True
                if (pause := backoff.pause(fault)) is None:
                    await self._give_up(waiting, error, fault, writes=writes, connected=connected)
                    return
            else:
                # Only now that the connection is back in the pool: callers hold nothing on return.
                for operation, result in zip(waiting, results, strict=True):
                    _answer(operation, result)
                return
            self._database.retried(fault)
            await asyncio.sleep(pause)
            if lost:
                waiting = await self._settle(waiting)

    async def _give_up(
        self, operations: Sequence[Any], error: Exception, fault: ErrorKind, *, writes: bool, connected: bool
    ) -> None:
        """Fail a batch; or try each of its operations alone, so that a bad one spoils no other."""
        # What keeps a serial database from one of them keeps it from all: each would wait in turn.
        one_is_bad = fault is ErrorKind.OTHER or (
            fault is ErrorKind.RETRY and not self._database.dialect.serial
        )
        if len(operations) > 1 and connected and one_is_bad:
            for operation in operations:
                await self._run([operation], writes=writes, retry_for=0.0)
            return
        meaning = translated(self._database.dialect, error)
        for operation in operations:
            if operation.unknown and writes:
                meaning = StorageUnavailable(UNKNOWN)
                meaning.__cause__ = error
            _fail(operation, meaning)

    async def _settle(self, operations: Sequence[Any]) -> list[Any]:
        """Answer what was lost and yet took effect; give the others."""
        left = []
        for operation in operations:
            try:
                if not await self._took_effect(operation):
                    left.append(operation)
            except SessionError as error:
                _fail(operation, error)
        return left

    async def _took_effect(self, operation: Any) -> bool:
        """Whether a lost operation took effect; if so, it is answered."""
        digest = operation.digest
        if isinstance(operation, Write):
            written = partial(in_doubt.written, digest=digest, version=operation.version)
            if (record := await self._database.run(written)) is None:
                return False
            _answer(operation, (digest, *astuple(record)))
            return True
        if isinstance(operation, Delete):
            ended = partial(in_doubt.ended, digest=digest, version=operation.version)
            if not await self._database.run(ended):
                return False
            _answer(operation, True)
            return True
        return False  # done twice, a read or a touch has the effect of once


def _claim(operations: Sequence[Any], flight: asyncio.Future[None]) -> list[Any]:
    """Those whose callers have not left while there was no connection; now they cannot any more."""
    staying = [operation for operation in operations if not operation.future.done()]
    for operation in staying:
        operation.flight = flight
    return staying


def _answer(operation: Operation, result: Any) -> None:
    if operation.future.done():  # its caller has left
        return
    if isinstance(operation, Write) and result is not None and result[1] != operation.version:
        result = None
    operation.future.set_result(result)


def _fail(operation: Operation, error: Exception) -> None:
    if not operation.future.done():
        operation.future.set_exception(error)
