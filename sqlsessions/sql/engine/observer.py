"""What can be seen of a storage's work on its database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from .engines import Engines


class Observer(Protocol):
    """Is told by a `Database` and its `BatchExecutor` of what they do, if it is set as ``observer``."""

    def batch(self, size: int, *, writes: bool) -> None:
        """So many operations go out together."""

    def retry(self, fault: str) -> None:
        """Something is tried again, because of a `ErrorKind` of this name."""


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


def usage(database: Engines) -> Usage:
    """How the connections are used now; may be called from any thread."""
    total = Usage()
    for here in list(database._loops.values()):  # noqa: SLF001 (this package's own)
        total.pending += here.waiting
        pool = here.pool
        if not isinstance(pool, QueuePool):
            total.most = None
            continue
        kept_idle = len(here.kept_idle)
        total.used += max(0, pool.checkedout() - kept_idle)
        total.idle += pool.checkedin() + kept_idle
        if total.most is not None:
            overflow = pool._max_overflow  # noqa: SLF001 (it has no other name)
            total.most = total.most + pool.size() + overflow if overflow >= 0 else None
    return total
