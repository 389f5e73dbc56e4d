"""One batch of operations, from its first attempt to the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import astuple
from operator import attrgetter
from time import monotonic
from typing import Any

from ..._versions import KnownVersions, is_same_write
from ...errors import SessionConflict, StorageUnavailable
from ..dialects import ErrorKind
from ..engine.database import Database
from ..engine.retry import AWAY, translated
from ..statements import in_doubt
from ..statements.transactions import CONFLICT
from .driver import Driver
from .operations import ABSENT, Delete, Operation, Row, Touch, Write

_IN_DOUBT = attrgetter("in_doubt")


class Batch:
    """One batch on its way through its attempts.

    Attributes:
        done: Done when every operation is answered.
        locked: The error of a row that another transaction has locked.
        left: Operations that are still to be answered.
    """

    def __init__(
        self,
        database: Database,
        driver: Driver[Any],
        known: KnownVersions,
        now: Callable[[], int],
        operations: Sequence[Any],
        *,
        writes: bool,
        retry_for: float | None,
        failed: Exception | None = None,
    ) -> None:
        self._database = database
        self._driver = driver
        self._known = known
        self._now = now
        self._writes = writes
        self._retry_for = database.retry_for if retry_for is None else retry_for
        self._failed = failed
        self._attempts = database.attempts(self._retry_for)
        self._attempts.in_doubt = any(map(_IN_DOUBT, operations))
        self.locked: Exception | None = None
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
            results = await self._carry_out()
        except Exception as error:
            kind = self._database.dialect.error_kind(error)
            for operation in self.left:
                operation.sent = False
                operation.in_doubt |= self._attempts.connected and kind is ErrorKind.LOST
            if kind in AWAY:
                self._fail_late(error)
            if kind is ErrorKind.LOCKED and self._writes and self._database.dialect.remote:
                self._database.notify_retry(kind)
                self.locked = error
                return
            raise
        if self._attempts.in_doubt and self._writes:
            results = await self._with_late_ends(results)
        # Only now that the connection is back in the pool: callers hold nothing on return.
        if self._writes:
            for operation, result in zip(self.left, results, strict=True):
                if result is ABSENT:
                    self._known.forget(operation.digest)
                    operation.before, operation.sent = None, False
                    operation.again = not operation.aside
                else:
                    self._answer(operation, result)
        else:
            self._answer_reads(results)
        self.left = []

    async def _carry_out(self) -> list[Any]:
        if self._failed is not None:  # in the first attempt, which was made elsewhere
            failed, self._failed = self._failed, None
            raise failed
        async with self._driver.checkout(writes=self._writes) as connection:
            self._attempts.connected = True
            self._claim()
            carry_out = self._driver.write if self._writes else self._driver.read
            return await carry_out(connection, self.left) if self.left else []

    def _claim(self) -> None:
        """Leave out operations whose callers left while there was no connection; now they cannot any more."""
        claimed = []
        now = self._now() if self._writes else 0
        for operation in self.left:
            if operation.future.done():
                continue
            if self._writes:
                operation.begin(now)
                if isinstance(operation, Write) and not operation.in_doubt:
                    # It may be known by now, but a write that was put with those of known sessions stays one.
                    operation.before = self._known.get(operation.digest) or operation.before
            operation.batch_done = self.done
            operation.sent = True
            claimed.append(operation)
        self.left = claimed

    async def _resolve(self) -> None:
        """Answer the operations that took effect although the reply was lost, and leave the others."""
        # Touches are idempotent; but one with an idle timeout of its own is done where it can be told from the first one,
        # which may come late.
        for operation in self.left:
            if isinstance(operation, Touch) and operation.extending == "given" and operation.in_doubt:
                self._answer(operation, None)
        wanted = [operation for operation in self.left if isinstance(operation, (Write, Delete))]
        found = await self._look({operation.digest for operation in wanted})
        for operation in wanted:
            seen = found[operation.digest]
            try:
                if isinstance(operation, Delete):
                    if seen.has_ended(operation.tombstone):
                        self._answer(operation, True)
                elif (record := seen.written(operation.version, operation.known)) is not None:
                    self._answer(operation, (operation.digest, *astuple(record)))
                elif not operation.if_match:
                    self._answer(operation, None)  # to be written where the row is locked meanwhile
            except StorageUnavailable as error:
                fail(operation, error)
        self.left = [operation for operation in self.left if not operation.future.done()]

    async def _with_late_ends(self, results: list[Any]) -> list[Any]:
        """The results, where an end that was in doubt came to its end while it was done again."""
        digests = {
            operation.digest
            for operation, result in zip(self.left, results, strict=True)
            if isinstance(operation, Delete) and operation.in_doubt and not result
        }
        found = await self._look(digests)
        return [
            found[operation.digest].has_ended(operation.tombstone) if operation.digest in digests else result
            for operation, result in zip(self.left, results, strict=True)
        ]

    async def _look(self, digests: set[bytes]) -> dict[bytes, in_doubt.Seen]:
        if not digests:
            return {}
        async with self._database.connection(writes=False) as connection:
            return await in_doubt.look(connection, digests)

    def _answer_reads(self, rows: Sequence[Row | None]) -> None:
        self._known.note_all(rows)
        for read, row in zip(self.left, rows, strict=True):
            if not read.future.done():  # else its caller has left
                read.future.set_result(row)

    def _answer(self, operation: Operation, result: Any) -> None:
        if result and isinstance(operation, Write):
            self._known.note(operation.digest, result[1])
            if not is_same_write(result[1], operation.version):
                if operation.conflicts(result[1]):
                    fail(operation, SessionConflict(CONFLICT))
                    return
                result = None
        if not operation.future.done():  # else its caller has left
            operation.kept = not result and isinstance(operation, (Write, Delete))
            operation.future.set_result(result)

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

    def _fail_late(self, error: Exception) -> None:
        """Answer the operations that were called too long ago to be tried again, if not all of them were."""
        self._attempts.since = max((operation.submitted for operation in self.left), default=0.0)
        before = monotonic() - self._retry_for
        if self._attempts.since > before:
            late = [operation for operation in self.left if operation.submitted <= before]
            self.left = [operation for operation in self.left if operation.submitted > before]
            self._fail(late, error)

    def _fail_all(self, error: Exception) -> None:
        left, self.left = self.left, []
        self._fail(left, error)

    def _fail(self, operations: Sequence[Operation], error: Exception) -> None:
        for operation in operations:
            doubt = operation.in_doubt and self._writes
            fail(operation, translated(self._database.dialect, error, in_doubt=doubt))


def fail(operation: Operation, error: Exception) -> None:
    """Answer an operation with an error, unless its caller has left."""
    if not operation.future.done():
        operation.future.set_exception(error)
