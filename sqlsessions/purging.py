"""The purge as a service: again and again, one process at a time, giving way to whoever works."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NoReturn, Protocol, Self

from .errors import SessionError

__all__ = ["UNCONTESTED", "PurgeStatistics", "Purged", "Purging", "Turn"]

logger = logging.getLogger("sqlsessions")

SHARE = 0.5
"""The most of its time that a purge spends in the database; it pauses for the rest."""
LONGEST_PAUSE = 1.0  # seconds, after a batch
JITTER = 0.1  # of the time between two rounds, either way, so that services do not march in step
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


class Purgeable(Protocol):
    """What a purge needs of a storage; every `ManagedSessionStorage` has it."""

    def _purge_lease(self) -> AbstractAsyncContextManager[Turn | None]: ...

    def _purge_batches(self, batch_size: int) -> AsyncIterator[Purged]: ...


class Turn(Protocol):
    """The right to be the one that purges."""

    async def keep(self) -> bool:
        """Say that the purge goes on; False if another process has taken over."""


class _Uncontested:
    """The turn where there is nobody to share it with."""

    async def keep(self) -> bool:
        return True


UNCONTESTED: Turn = _Uncontested()


class Purging:
    """Purges a storage every so often, for as long as the service runs.

    Made by `ManagedSessionStorage.purging`. ``async with`` purges in the background; `run` in the
    caller's task, until it is cancelled; `once` a single time.

    Of several processes that do so, one at a time purges; the others skip that round. It pauses
    between batches, so that half of the time belongs to others. An error ends a round, never the
    purging: it is logged, and the next round comes sooner, after 1 second, then 2, 4 and so on up to
    ``every``. What was deleted is logged too, on the logger ``sqlsessions``.

    Args:
        storage: The storage.
        every: Seconds from the end of a round to the next, give or take 10 %.
        batch_size: Sessions looked at in one batch.
        progress: Called after each batch with what this round has deleted so far.
    """

    def __init__(
        self,
        storage: Purgeable,
        *,
        every: float,
        batch_size: int,
        progress: Callable[[Purged], None] | None = None,
    ) -> None:
        self._storage = storage
        self._every = every
        self._batch_size = batch_size
        self._progress = progress
        self._task: asyncio.Task[NoReturn] | None = None
        self.statistics = PurgeStatistics()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name="sqlsessions purge")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def run(self) -> NoReturn:
        """Purge now and every so often, until cancelled. A batch under way is finished first."""
        failures = 0
        while True:
            try:
                await self.once()
                failures, pause = 0, self._every
            except Exception as error:  # noqa: BLE001 (whatever it was, the next round may go well)
                pause = min(self._every, FIRST_BACKOFF * 2**failures)
                failures = min(failures + 1, 30)
                # Only our own messages are known to hold no data.
                reason = str(error) if isinstance(error, SessionError) else type(error).__name__
                logger.warning("purging expired sessions failed, next try in %.0f s: %s", pause, reason)
            await asyncio.sleep(pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311

    async def once(self) -> Purged | None:
        """Purge once.

        Returns:
            What was deleted; None if another process is at it.

        Raises:
            StorageUnavailable: If the storage cannot answer.
        """
        purged, started = Purged(), time.monotonic()
        try:
            async with self._storage._purge_lease() as turn:  # noqa: SLF001 (not for anybody else)
                if turn is None:
                    self._count(skipped=1)
                    return None
                batches = self._storage._purge_batches(self._batch_size)  # noqa: SLF001
                began = time.monotonic()
                async for deleted in batches:
                    purged += deleted
                    if self._progress:
                        self._progress(purged)
                    if not await turn.keep():
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
