"""`KeepsEnded`: what storages offer that keep a record of sessions that have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from .info import EndedSession


class KeepsEnded(ABC):
    """A storage that keeps a record of each session that has ended, for as long as its ``keep_ended`` says.

    Records are written with the end: in the same transaction where there are transactions. Rotations and writes
    end nothing. An expired session has its record from the purge that deletes it on; one whose id is used again before
    that leaves none. Once ``keep_ended`` is over, a purge deletes the record.
    """

    @abstractmethod
    def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        """Iterate over the sessions that have ended, the last one first, page by page.

        Args:
            subject: Only this subject's; None is everybody's.
            since: Only those that ended then or later; a datetime with a time zone.

        Raises:
            InvalidArgument: If ``since`` has no time zone.
        """

    @abstractmethod
    async def forget_ended(self, subject: str) -> int:
        """Delete what is left of a subject's sessions that are over: records, and expired ones that no purge has found.

        Live ones stay: `revoke` them before, to erase all.

        Returns:
            How many records were deleted.
        """

    @abstractmethod
    async def rename_ended(self, name: Callable[[str], str]) -> int:
        """Give the subject and each value of the client of records other names. For layers.

        Args:
            name: Gives the new one. It may be called again.

        Returns:
            How many records were changed.
        """
