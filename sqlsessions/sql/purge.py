"""The purge: deletes expired sessions, and the chunks that no session points at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select, update
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

ROWS_PER_STATEMENT = 100
"""So few that whoever reads or writes meanwhile hardly notices."""

CHUNKS_PER_DELETE = 100

s, k = sessions.c, chunks.c


async def purge(
    database: Database, clock: Callable[[], int], batch_size: int, max_batches: int | None
) -> int:
    """Delete what has expired and what is left over; see `ManagedSessionStorage.purge`.

    Returns:
        How many expired sessions were deleted.
    """
    deleted = looked_at = 0
    most = None if max_batches is None else max_batches * batch_size
    bucket: int | None = None
    while (
        bucket := await database.run(partial(_next_bucket, after=bucket, last=clock() // HOUR))
    ) is not None:
        after: bytes | None = b""
        while after is not None:
            size = min(batch_size, ROWS_PER_STATEMENT, batch_size if most is None else most - looked_at)
            if size == 0:
                return deleted
            after, count = await _purge_range(database, clock, bucket, after, size)
            deleted += count
            looked_at += size
    left = None if max_batches is None else max_batches - looked_at // batch_size
    await _purge_chunks(database, clock, batch_size, left)
    return deleted


async def _next_bucket(connection: AsyncConnection, after: int | None, last: int) -> int | None:
    """The first bucket after another that may hold sessions that have expired."""
    wanted = select(func.min(s.expires_bucket)).where(s.expires_bucket <= last)
    if after is not None:
        wanted = wanted.where(s.expires_bucket > after)
    first: int | None = (await connection.execute(wanted)).scalar()
    return first


async def _purge_range(
    database: Database, clock: Callable[[], int], bucket: int, after: bytes, size: int
) -> tuple[bytes | None, int]:
    """Delete what has expired among some sessions of a bucket, without fetching them.

    Returns:
        The last of them, None if it was the bucket's last; and how many were deleted.
    """
    here = and_(s.expires_bucket == bucket, s.id > after)

    async def find_end(connection: AsyncConnection) -> bytes | None:
        return (
            await connection.execute(select(s.id).where(here).order_by(s.id).offset(size - 1).limit(1))
        ).scalar()

    end = await database.run(find_end)
    if end is not None:
        here = and_(here, s.id <= end)

    async def delete_plain(connection: AsyncConnection) -> int:
        # In the order of the index, and so of ids, as batches of writes lock them.
        plain = and_(here, s.expires_at <= clock(), s.data.is_not(None))
        return (await connection.execute(delete(sessions).where(plain))).rowcount

    deleted = await database.run(delete_plain, settle=again)
    if deleted == size:
        return end, deleted
    # What is left there has chunks, lives on in this hour, or lives longer than its bucket says.
    hour = database.backend.hour(s.expires_at)

    async def find_others(connection: AsyncConnection) -> list[bytes]:
        due = or_(s.expires_at.is_(None), s.expires_at <= clock(), hour > s.expires_bucket)
        return list((await connection.execute(select(s.id).where(here, due))).scalars())

    if others := await database.run(find_others):
        work = partial(_purge_batch, hour=hour, ids=others, clock=clock)
        deleted += await database.transaction(work, settle=again)
    return end, deleted


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
