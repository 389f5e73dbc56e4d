"""Resolves in-doubt operations: did it commit although the reply was lost?

A write is known by its version. It took effect if the row has that version or a higher one, or if a tombstone
says that the session ended with one; else it did not, and doing it now is doing it once. That rests on two
rules. A row's version only grows, but for a large write that began before a small one and committed after
it, which leaves a tombstone of the version that it replaced. And whatever ends or moves a session leaves a
tombstone of the version that it ended, under a version of its own, by which it is known itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._versions import first_version, version_time
from ...errors import StorageUnavailable
from ...records import Record
from ..models import TOMBSTONE, chunks, sessions
from .single import RECORD

SKEW = 60 * 1_000_000
"""Microseconds by which the clocks of services may differ."""

c, k = sessions.c, chunks.c


@dataclass(slots=True)
class Seen:
    """What there is of a session.

    Attributes:
        record: The session; None if there is none.
        tombstones: By their own versions, those that ended.
    """

    record: Record | None = None
    tombstones: dict[int, int] = field(default_factory=dict)

    def written(self, version: int, before: Collection[int] = ()) -> Record | None:
        """What a write left, if it took effect and is the latest; None if it did not take effect.

        Args:
            version: What was written.
            before: Versions that the session is known to have had before the write.

        Raises:
            StorageUnavailable: If it took effect, or may have, and was replaced or ended since.
        """
        if self.record is not None:
            if self.record.version == version:
                return self.record
            if self.record.version in before:
                return None
        known = [*self.tombstones.values(), *([self.record.version] if self.record else [])]
        if any(other >= version for other in known):
            raise StorageUnavailable(
                "the connection was lost, and what became of the operation is unknown: the session was "
                "written or ended since"
            )
        return None

    def has_ended(self, version: int) -> bool:
        """Whether what ends or moves a session took effect, by the version of its tombstone."""
        return version in self.tombstones


async def look(connection: AsyncConnection, versions: Mapping[bytes, int]) -> dict[bytes, Seen]:
    """Look for the outcomes of operations, all at once.

    Args:
        connection: To the database.
        versions: What each session was written or ended with.
    """
    found = {digest: Seen() for digest in versions}
    rows = await connection.execute(select(c.id, *RECORD).where(c.id.in_(versions)))
    for digest, *values in rows:
        found[digest].record = Record(*values)
    since = first_version(max(0, version_time(min(versions.values())) - SKEW))
    tombstones = await connection.execute(
        select(k.id, k.version, k.data).where(k.version >= since, k.id.in_(versions), k.seq == TOMBSTONE)
    )
    for digest, version, ended in tombstones:
        found[digest].tombstones[version] = int.from_bytes(ended, "big")
    return found


async def written(
    connection: AsyncConnection, digest: bytes, version: int, before: Collection[int] = ()
) -> Record | None:
    """See `Seen.written`, of one session."""
    return (await look(connection, {digest: version}))[digest].written(version, before)


async def ended(connection: AsyncConnection, digest: bytes, version: int) -> bool:
    """See `Seen.has_ended`, of one session."""
    tombstone = select(k.seq).where(k.version == version, k.id == digest, k.seq == TOMBSTONE)
    return (await connection.execute(tombstone)).first() is not None
