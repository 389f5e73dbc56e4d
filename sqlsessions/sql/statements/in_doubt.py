"""Resolves in-doubt operations: did it commit although the reply was lost?

A write is known by the token in its version. It took effect if the row has it, or a tombstone says that the
session ended with it. It did not if the row still has the version that was there before, or one that came directly
after that and is another's; nor if the session ended with such a version, or there is neither a row nor a
tombstone. In all other cases it cannot be told, since the row does not say what was there in between. That rests on two rules. A row's version only grows. And each
end or move of a session leaves a tombstone of the version that it ended, in a row of its own, by which it is
known itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._versions import BLOCK, token_of
from ...errors import StorageUnavailable
from ...records import Record
from ..models import TOMBSTONE, chunks, sessions
from .single import RECORD

c, k = sessions.c, chunks.c


@dataclass(slots=True)
class Seen:
    """What there is of a session.

    Attributes:
        record: The session; None if there is none.
        tombstones: By their ``seq``, the versions that ended.
    """

    record: Record | None = None
    tombstones: dict[int, int] = field(default_factory=dict)

    def written(self, version: int, before: Collection[int] = ()) -> Record | None:
        """What a write left, if it took effect and is the latest; None if it did not take effect.

        Args:
            version: What was written, or one with the same token.
            before: Versions of which the session had one just before the write, if it was there.

        Raises:
            StorageUnavailable: If it took effect, or may have, and was replaced or ended since.
        """
        token, ended = token_of(version), self.tombstones.values()
        if self.record is not None and token_of(self.record.version) == token:
            return self.record
        last = ended if self.record is None else [self.record.version]
        if any(token_of(gone) == token for gone in ended) or not all(_follows(one, before) for one in last):
            raise StorageUnavailable(
                "the connection was lost, and what became of the operation is unknown: the session was "
                "written or ended since"
            )
        return None

    def has_ended(self, tombstone: int) -> bool:
        """Whether what ends or moves a session took effect, by the ``seq`` of its tombstone."""
        return tombstone in self.tombstones


def _follows(version: int, before: Collection[int]) -> bool:
    """Whether there was no other version between one of some and this one."""
    return any(version == known or version // BLOCK == known // BLOCK + 1 for known in before)


async def look(connection: AsyncConnection, digests: Collection[bytes]) -> dict[bytes, Seen]:
    """Look for the outcomes of operations on some sessions, all at once."""
    found = {digest: Seen() for digest in digests}
    rows = await connection.execute(select(c.id, *RECORD).where(c.id.in_(digests)))
    for digest, *values in rows:
        found[digest].record = Record(*values)
    tombstones = await connection.execute(
        select(k.id, k.seq, k.data).where(k.version == 0, k.id.in_(digests), k.seq <= TOMBSTONE)
    )
    for digest, seq, ended in tombstones:
        found[digest].tombstones[seq] = int.from_bytes(ended[8:16], "big")
    return found


async def written(
    connection: AsyncConnection, digest: bytes, version: int, before: Collection[int] = ()
) -> Record | None:
    """See `Seen.written`, of one session."""
    return (await look(connection, [digest]))[digest].written(version, before)


async def ended(connection: AsyncConnection, digest: bytes, tombstone: int) -> bool:
    """See `Seen.has_ended`, of one session."""
    wanted = select(k.seq).where(k.version == 0, k.id == digest, k.seq == tombstone)
    return (await connection.execute(wanted)).first() is not None
