"""The background purge: repeated, one process at a time, with pauses that leave the database to others."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    aclosing,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import NoReturn, Protocol, Self

from ._tasks import end
from ._validation import MAX_BATCH, positive, required_duration
from .errors import SessionError

__all__ = ["PurgeLease", "PurgeStatistics", "Purged", "Purging"]

logger = logging.getLogger("sqlsessions")

SHARE = 0.5
"""The most of its time that a purge spends in the database; it pauses for the rest."""
LONGEST_PAUSE = 1.0  # seconds, after a batch
JITTER = 0.1  # of the time between two rounds, either way, so that services do not purge in lockstep
FIRST_BACKOFF = 1.0  # seconds; doubles with every failure in a row


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge deleted.

    Attributes:
        sessions: Expired sessions.
        chunks: Pieces of large sessions that no session needs any more.
    """

    sessions: int = 0
    chunks: int = 0

    def __add__(self, other: Purged) -> Purged:
        return Purged(self.sessions + other.sessions, self.chunks + other.chunks)


@dataclass(frozen=True, slots=True)
class PurgeStatistics:
    """What a `Purging` has done so far.

    Attributes:
        rounds: Purges that came to their end.
        skipped: Rounds left to another process, which was purging.
        failures: Rounds that an error ended.
        purged: What all of them deleted.
    """

    rounds: int = 0
    skipped: int = 0
    failures: int = 0
    purged: Purged = Purged()


class PurgeLease(Protocol):
    """The exclusive right to purge, valid for as long as it is renewed."""

    async def renew(self) -> bool:
        """Extend the lease; False if another process has acquired it."""


class _LocalLease:
    """The lease of a storage that no other process can purge."""

    async def renew(self) -> bool:
        return True


def _local_lease() -> AbstractAsyncContextManager[PurgeLease]:
    return nullcontext(_LocalLease())


@contextmanager
def _unobserved() -> Iterator[Callable[[Purged], None]]:
    yield lambda _deleted: None


class Purging:
    """Purges a storage at intervals, for as long as the service runs.

    Made by `ManagedSessionStorage.purging`. ``async with`` purges in the background; `run` in the
    caller's task, until it is cancelled; `once` a single time.

    Of several processes, one at a time purges; the others skip that round. It pauses between steps, for as long as the step took. An error ends a round, never the purging: it is logged,
    and the next round comes sooner, after 1 second, then 2, 4 and so on up to ``every``. What was
    deleted is logged too, on the logger ``sqlsessions``.

    Args:
        batches: Begins a purge with a batch size, and yields after each step what it deleted.
        lease: Acquires the exclusive right to purge for the length of a round; the lease is None if another
            process holds it. Unless set, the storage is taken to belong to this process.
        every: Time from the end of a round to the next, give or take 10 %. 300 seconds unless set.
        batch_size: Sessions looked at in one batch, 1 to 10,000.
        progress: Called after each step with what this round has deleted so far.

    Attributes:
        statistics: What was done so far.
        observer: Entered for the length of each round that purges, and called with what each step
            deleted; for telemetry.

    Raises:
        InvalidArgument: If an argument is out of its range.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        batches: Callable[[int], AsyncGenerator[Purged]],
        *,
        lease: Callable[[], AbstractAsyncContextManager[PurgeLease | None]] = _local_lease,
        every: float | timedelta = 300.0,
        batch_size: int = 1000,
        progress: Callable[[Purged], None] | None = None,
    ) -> None:
        self._batches = batches
        self._lease = lease
        self._every = required_duration("every", every) / 1_000_000
        self._batch_size = positive("batch_size", batch_size, MAX_BATCH)
        self._progress = progress
        self._task: asyncio.Task[NoReturn] | None = None
        self.statistics = PurgeStatistics()
        self.observer: Callable[[], AbstractContextManager[Callable[[Purged], None]]] = _unobserved

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name="sqlsessions purge")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end(self._task)
            self._task = None

    async def run(self) -> NoReturn:
        """Purge now and at each interval, until cancelled. A batch under way is finished first."""
        failures = 0
        while True:
            try:
                await self.once()
                failures, pause = 0, self._every
            except Exception as error:  # noqa: BLE001 (the next round may succeed)
                pause = min(self._every, FIRST_BACKOFF * 2**failures)
                failures = min(failures + 1, 30)
                # Only our own messages are known to hold no data.
                reason = str(error) if isinstance(error, SessionError) else type(error).__name__
                logger.warning("purging expired sessions failed, next try in %.0f s: %s", pause, reason)
            await asyncio.sleep(pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    async def once(self) -> Purged | None:
        """Purge once.

        Returns:
            What was deleted; None if another process is purging.

        Raises:
            StorageUnavailable: If the storage cannot answer.
        """
        purged, started = Purged(), time.monotonic()
        try:
            async with self._lease() as lease:
                if lease is None:
                    self._count(skipped=1)
                    return None
                with self.observer() as observe:
                    async with aclosing(self._batches(self._batch_size)) as batches:
                        began = time.monotonic()
                        async for deleted in batches:
                            purged += deleted
                            observe(deleted)
                            if self._progress:
                                self._progress(purged)
                            if not await lease.renew():
                                break
                            taken = time.monotonic() - began
                            await asyncio.sleep(min(taken * (1 - SHARE) / SHARE, LONGEST_PAUSE))
                            began = time.monotonic()
        except Exception:
            self._count(failures=1, purged=purged)
            raise
        except BaseException:
            self._count(purged=purged)
            raise
        self._count(rounds=1, purged=purged)
        if purged != Purged():
            logger.info(
                "purged %d expired sessions and %d chunks in %.1f s",
                purged.sessions, purged.chunks, time.monotonic() - started,
            )  # fmt: skip
        return purged

    def _count(
        self, *, rounds: int = 0, skipped: int = 0, failures: int = 0, purged: Purged | None = None
    ) -> None:
        known = self.statistics
        self.statistics = replace(
            known,
            rounds=known.rounds + rounds,
            skipped=known.skipped + skipped,
            failures=known.failures + failures,
            purged=known.purged + (purged or Purged()),
        )
