"""Operations of more than one statement: writing where chunks are involved, ending, rotating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import SessionChanged, SessionConflict, SessionNotFound
from ...records import Lifetime, Options, Record, written
from ..models import sessions
from . import chunks
from .single import CHUNKED, RECORD, parameter, parameters, row

c = sessions.c

CONFLICT = "the live session does not have the version of if_match"


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of ``sessions``, locked, without its data."""

    id: bytes
    chunked: bool
    record: Record


async def locked(
    connection: AsyncConnection,
    *conditions: ColumnElement[bool],
    limit: int | None = None,
    skip: bool = False,
) -> list[Stored]:
    """Lock rows in the order of their ids, so that transactions that do so cannot deadlock.

    Args:
        connection: In a transaction.
        conditions: Which rows.
        limit: The most rows.
        skip: Leave out what others have locked.
    """
    found = await connection.execute(
        select(c.id, CHUNKED, *RECORD)
        .where(*conditions)
        .order_by(c.id)
        .limit(limit)
        .with_for_update(skip_locked=skip)
    )
    return [Stored(id, bool(chunked), Record(*values)) for id, chunked, *values in found]


async def replace(
    connection: AsyncConnection,
    digest: bytes,
    options: Options,
    defaults: Lifetime,
    *,
    now: int,
    version: int,
    size: int,
    data: bytes | None,
    tombstone: int,
    staged: int = 0,
    before: list[int] | None = None,
) -> Record:
    """Write a session whatever it was before.

    Args:
        connection: In a transaction.
        digest: Which session.
        options: What the call asked for.
        defaults: The storage's settings.
        now: The time.
        version: The new version; a small session gets a higher one if the old one's is higher.
        size: Bytes of the new data.
        data: The new data; None if it is staged.
        tombstone: A version for the tombstone that a large write may leave, whose own may be old by now.
        staged: How many chunks were staged.
        before: Gets the version that is replaced.

    Raises:
        SessionConflict: If ``if_match`` does not hold.
        SessionChanged: If the staged chunks are not all there.
    """
    old = next(iter(await locked(connection, c.id == digest)), None)
    if old is not None and before is not None:
        before.append(old.record.version)
    if old is not None and old.record.version == version:
        return old.record  # it was lost, and took effect after all
    live = old.record if old and old.record.live(now) else None
    if options.if_match is not None and options.if_match != (live.version if live else 0):
        raise SessionConflict(CONFLICT)
    if staged and await chunks.count(connection, version, digest) != staged:
        raise SessionChanged("the write took so long that its staged data was purged: write again")
    if old is not None and old.record.version > version:
        if data is not None:
            version = old.record.version + 1
        else:  # the chunks have this one; the writer of the old one may be looking for its outcome
            await chunks.leave_tombstones(connection, tombstone, [(digest, old.record.version)])
    record = written(live, options, now, version, size, defaults)
    values = {column.name: parameter(column.name) for column in c}
    if old is None:
        await connection.execute(insert(sessions).values(values), parameters(row(digest, record, data)))
        return record
    if old.chunked:
        await chunks.mark(connection, [(old.record.version, digest)], now)
    await connection.execute(
        update(sessions).where(c.id == parameter("id")).values(values), parameters(row(digest, record, data))
    )
    return record


async def end(connection: AsyncConnection, rows: Sequence[Stored], now: int, version: int) -> None:
    """Delete locked sessions that live, leaving tombstones under a version of the end's own."""
    await remove(connection, rows, now)
    await chunks.leave_tombstones(
        connection, version, [(stored.id, stored.record.version) for stored in rows]
    )


async def remove(connection: AsyncConnection, rows: Sequence[Stored], now: int) -> None:
    """Delete locked sessions, marking their chunks as superseded."""
    # An expired session was superseded when it expired.
    for stored in rows:
        if stored.chunked:
            gone_at = now if stored.record.live(now) else stored.record.expires_at or now
            await chunks.mark(connection, [(stored.record.version, stored.id)], gone_at)
    if rows:
        await connection.execute(delete(sessions).where(c.id.in_([stored.id for stored in rows])))


async def move(
    connection: AsyncConnection,
    digest: bytes,
    new_digest: bytes,
    now: int,
    copied: Record | None,
    version: int,
) -> Stored | Record:
    """Give a session a new id.

    Args:
        connection: In a transaction.
        digest: The old id.
        new_digest: The new one.
        now: The time.
        copied: The version whose chunks the new id already has.
        version: Of the move's own, for its tombstone at the old id.

    Returns:
        The record; or the session as it is, if its chunks must be copied first.

    Raises:
        SessionNotFound: If there is no live session.
        SessionConflict: If the new id is taken.
    """
    rows = {stored.id: stored for stored in await locked(connection, c.id.in_([digest, new_digest]))}
    old, taken = rows.get(digest), rows.get(new_digest)
    if old is None or not old.record.live(now):
        raise SessionNotFound("no live session has this id")
    if taken is not None and taken.record.live(now):
        raise SessionConflict("a live session already has the new id")
    if old.chunked:
        held = old.record.version
        there = copied is not None and copied.version == held
        if not there or await chunks.count(connection, held, new_digest) != await chunks.count(
            connection, held, digest
        ):
            return old
    if taken is not None:
        await remove(connection, [taken], now)
    await chunks.leave_tombstones(connection, version, [(digest, old.record.version)])
    await chunks.leave_forwarding(connection, digest, new_digest, now)
    if old.chunked:
        await chunks.release(connection, old.record.version, new_digest)
        await chunks.mark(connection, [(old.record.version, digest)], now)
    await connection.execute(update(sessions).where(c.id == digest).values(id=new_digest))
    return old.record
