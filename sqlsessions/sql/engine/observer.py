"""What can be observed of a storage's work on its database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.pool import QueuePool

from .engines import LoopState


class Observer(Protocol):
    """Notified of batches and retries, if it is set as `Database.observer`."""

    def batch(self, size: int, *, writes: bool) -> None:
        """A batch of operations is sent."""

    def retry(self, kind: str) -> None:
        """Work is tried again, because of an `ErrorKind` of this name."""


class Watch(Protocol):
    """Watches the transactions of batches on the driver's own connections, if it is set as `Database.watch`."""

    def begun(self, raw: Any) -> Any:
        """A transaction has begun; gives a mark for `committed`."""

    def committed(self, raw: Any, mark: Any, changes: Sequence[Any], results: Sequence[Any]) -> None:
        """It has committed these changes, with these results."""


@dataclass(slots=True)
class Usage:
    """The connections of a database, for all event loops together.

    Attributes:
        used: How many are at work.
        idle: How many wait for work.
        most: How many there may be; None if that is not bounded, or not known.
        pending: How many operations wait for one.
    """

    used: int = 0
    idle: int = 0
    most: int | None = 0
    pending: int = 0


def usage(states: Iterable[LoopState]) -> Usage:
    """How the connections are used now; may be called from any thread."""
    total = Usage()
    for state in states:
        total.pending += state.waiting
        pool = state.pool
        if not isinstance(pool, QueuePool):
            total.most = None
            continue
        kept_idle = len(state.kept_idle)
        total.used += max(0, pool.checkedout() - kept_idle)
        total.idle += pool.checkedin() + kept_idle
        if total.most is not None:
            overflow = pool._max_overflow  # noqa: SLF001 (it has no other name)
            total.most = total.most + pool.size() + overflow if overflow >= 0 else None
    return total
