"""Whether something whose answer was lost took effect.

A write is known by its version: it is there, or a higher one is, or a trace tells that the session ended;
else it never took effect, and doing it now is doing it once. That rests on two rules. A row's version only
grows, but for a large write that began before a small one and came later, which leaves a trace of the
version that it replaced. And whatever ends a session or moves it leaves a trace of the version that it ended,
under a version of its own, by which it is known itself.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._versions import first_version, version_time
from ...errors import StorageUnavailable
from ...records import Record
from ..engine.retry import UNKNOWN
from ..models import TOMBSTONE, chunks, sessions
from .single import RECORD

SKEW = 60 * 1_000_000
"""Microseconds by which the clocks of services may differ."""

c, k = sessions.c, chunks.c


async def written(
    connection: AsyncConnection, digest: bytes, version: int, before: Collection[int] = ()
) -> Record | None:
    """What a write left, if it took effect and nobody has written since; None if it did not.

    Args:
        connection: To the database.
        digest: The session.
        version: What was written.
        before: Versions that the session is known to have had before the write.

    Raises:
        StorageUnavailable: If it took effect, or may have, and is there no more.
    """
    row = (await connection.execute(select(*RECORD).where(c.id == digest))).first()
    record = None if row is None else Record(*row)
    if record is not None and record.version == version:
        return record
    if record is not None and record.version in before:
        return None
    since = first_version(max(0, version_time(version) - SKEW))
    traces = await connection.execute(
        select(k.data).where(k.id == digest, k.seq == TOMBSTONE, k.version >= since)
    )
    gone = [int.from_bytes(trace, "big") for trace in traces.scalars()]
    if any(known >= version for known in [*gone, *([record.version] if record else [])]):
        raise StorageUnavailable(UNKNOWN)
    return None


async def ended(connection: AsyncConnection, digest: bytes, version: int) -> bool:
    """Whether what ends or moves a session took effect, by the version of its trace."""
    trace = select(k.seq).where(k.version == version, k.id == digest, k.seq == TOMBSTONE)
    return (await connection.execute(trace)).first() is not None
