"""The purge: deletes expired sessions, and the chunks that no session points at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement, and_, delete, exists, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..records import first_version
from . import transactions
from .chunks import MARK
from .database import Database, again
from .dialects import HOUR
from .models import chunks, sessions

SUPERSEDED_GRACE = 60 * 1_000_000
"""Microseconds for which a superseded version stays readable."""

STAGING_GRACE = 24 * HOUR
"""Microseconds that a write may take from its first chunk to its commit."""

CHUNKS_PER_DELETE = 100

s, k = sessions.c, chunks.c


async def purge(
    database: Database, clock: Callable[[], int], batch_size: int, max_batches: int | None
) -> int:
    """Delete what has expired and what is left over; see `ManagedSessionStorage.purge`.

    Returns:
        How many expired sessions were deleted.
    """
    hour = database.backend.hour(s.expires_at)
    deleted = batches = 0
    after: _Due | None = None
    while max_batches is None or batches < max_batches:
        found = await database.run(partial(_due, hour=hour, now=clock(), after=after, limit=batch_size))
        if found:
            work = partial(_purge_batch, hour=hour, ids=[due.id for due in found], clock=clock)
            deleted += await database.transaction(work, settle=again)
            batches += 1
        if len(found) < batch_size:
            break
        after = found[-1]
    await _purge_chunks(database, clock, batch_size, None if max_batches is None else max_batches - batches)
    return deleted


@dataclass(frozen=True, slots=True)
class _Due:
    """A session that may have expired."""

    expires_bucket: int
    id: bytes


async def _due(
    connection: AsyncConnection, hour: ColumnElement[int | None], now: int, after: _Due | None, limit: int
) -> list[_Due]:
    due = and_(
        s.expires_bucket <= now // HOUR,
        # The bucket is a lower bound: look only at rows that are to be deleted or moved up.
        or_(s.expires_at.is_(None), s.expires_at <= now, hour > s.expires_bucket),
    )
    if after is not None:
        later = and_(s.expires_bucket == after.expires_bucket, s.id > after.id)
        due = and_(due, or_(s.expires_bucket > after.expires_bucket, later))
    wanted = select(s.expires_bucket, s.id).where(due).order_by(s.expires_bucket, s.id).limit(limit)
    return [_Due(*found) for found in await connection.execute(wanted)]


async def _purge_batch(
    connection: AsyncConnection, hour: ColumnElement[int | None], ids: list[bytes], clock: Callable[[], int]
) -> int:
    """Delete those of some sessions that have expired; move up the buckets of the others."""
    now = clock()
    rows = await transactions.locked(connection, s.id.in_(ids), skip=True)
    expired = [row for row in rows if not row.record.live(now)]
    await transactions.end(connection, expired, now)
    if alive := [row.id for row in rows if row.record.live(now)]:
        await connection.execute(update(sessions).where(s.id.in_(alive)).values(expires_bucket=hour))
    return len(expired)


async def _purge_chunks(
    database: Database, clock: Callable[[], int], batch_size: int, max_batches: int | None
) -> None:
    """Delete sets of chunks that no session points at, once they are old enough."""
    after: tuple[int, bytes] | None = None
    batches = 0
    while max_batches is None or batches < max_batches:
        found = await database.run(partial(_orphans, after=after, limit=batch_size))
        for version, digest, superseded in found:
            now = clock()
            if superseded is None:
                old = version < first_version(now - STAGING_GRACE)
            else:
                old = int.from_bytes(superseded, "big") <= now - SUPERSEDED_GRACE
            if old:
                await _delete_set(database, version, digest)
        if len(found) < batch_size:
            break
        after = found[-1][:2]
        batches += 1


async def _orphans(
    connection: AsyncConnection, after: tuple[int, bytes] | None, limit: int
) -> list[tuple[int, bytes, bytes | None]]:
    """Sets of chunks that no session points at, each with its mark."""
    marks = chunks.alias()
    joined = chunks.outerjoin(sessions, and_(s.id == k.id, s.version == k.version)).outerjoin(
        marks, and_(marks.c.version == k.version, marks.c.id == k.id, marks.c.seq == MARK)
    )
    wanted = (
        select(k.version, k.id, marks.c.data)
        .select_from(joined)
        .where(k.seq == 0, s.id.is_(None))
        .order_by(k.version, k.id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(or_(k.version > after[0], and_(k.version == after[0], k.id > after[1])))
    return [(version, digest, mark) for version, digest, mark in await connection.execute(wanted)]


async def _delete_set(database: Database, version: int, digest: bytes) -> None:
    """Delete a set from its end, so that one cut short is still found by its first chunk."""
    pointed_at = exists().where(s.id == digest, s.version == version)
    one_set = and_(k.version == version, k.id == digest, not_(pointed_at))

    async def last(connection: AsyncConnection) -> int:
        wanted = select(k.seq).where(one_set).order_by(k.seq.desc()).limit(1)
        return (await connection.execute(wanted)).scalar() or 0

    async def cut(connection: AsyncConnection, first: int) -> None:
        await connection.execute(delete(chunks).where(one_set, k.seq >= first))

    first = await database.run(last) - CHUNKS_PER_DELETE + 1
    while first > 0:
        await database.run(partial(cut, first=first), settle=again)
        first -= CHUNKS_PER_DELETE
    await database.run(partial(cut, first=MARK), settle=again)
