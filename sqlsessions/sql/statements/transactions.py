"""Operations of more than one statement: writing where chunks are involved, ending, rotating."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_record
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._versions import is_same_write, next_version
from ...errors import SessionChanged, SessionConflict, SessionNotFound
from ...info import Rebinding
from ...records import Lifetime, Options, Record, written
from ...storage import Default, Keep
from ..dialects import Dialect
from ..models import sessions
from . import chunks, labels
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
    hint: str | None = None,
    in_order: bool = True,
) -> list[Stored]:
    """Lock rows in the order of their ids, so that transactions that do so cannot deadlock.

    Args:
        connection: In a transaction.
        conditions: Which rows.
        limit: The most rows.
        skip: Leave out what others have locked.
        hint: Names an index to use.
        in_order: Whether to sort; else they are locked in the order in which the index has them.
    """
    wanted = select(c.id, CHUNKED, *RECORD).where(*conditions).limit(limit).with_for_update(skip_locked=skip)
    if in_order:
        wanted = wanted.order_by(c.id)
    if hint:
        wanted = wanted.with_hint(sessions, hint)
    found = await connection.execute(wanted)
    return [Stored(id, bool(chunked), Record(*values)) for id, chunked, *values in found]


async def locked_by_others(connection: AsyncConnection, digests: Sequence[bytes]) -> set[bytes]:
    """Which of some sessions other transactions have locked; in no transaction."""
    wanted = select(c.id).where(c.id.in_(digests))
    free = set((await connection.execute(wanted.with_for_update(skip_locked=True))).scalars())
    return set((await connection.execute(wanted)).scalars()) - free


async def replace(
    connection: AsyncConnection,
    dialect: Dialect,
    digest: bytes,
    options: Options,
    defaults: Lifetime,
    *,
    now: int,
    version: int,
    size: int,
    data: bytes | None,
    staged: int = 0,
    before: list[int] | None = None,
) -> Record:
    """Write a session whatever it was before.

    Args:
        connection: In a transaction.
        dialect: The database.
        digest: Which session.
        options: What the call asked for.
        defaults: The storage's settings.
        now: The time.
        version: The new version, or one with the same token if the old one's is higher. What is staged has it.
        size: Bytes of the new data.
        data: The new data; None if it is staged.
        staged: How many chunks were staged.
        before: Gets the version that is replaced.

    Raises:
        SessionConflict: If ``if_match`` does not hold.
        SessionChanged: If the staged chunks are not all there.
    """
    old = next(iter(await locked(connection, c.id == digest)), None)
    if old is not None and before is not None:
        before.append(old.record.version)
    if old is not None and is_same_write(old.record.version, version):
        return old.record  # it was lost, and took effect after all
    live = old.record if old and old.record.live(now) else None
    if options.if_match is not None and options.if_match != (live.version if live else 0):
        raise SessionConflict(CONFLICT)
    if staged and await chunks.count(connection, version, digest) != staged:
        raise SessionChanged("the write took so long that its staged data was purged: write again")
    if staged:
        await chunks.release(connection, version, digest)  # a purge may have marked what waited
    if old is not None and old.record.version >= version:
        staged_as, version = version, next_version(old.record.version, version)
        if staged:
            await chunks.rename(connection, staged_as, digest, version)
    record = written(live, options, now, version, size, defaults)
    values = {column.name: parameter(column.name) for column in c}
    if old is not None and old.chunked:
        await chunks.mark(connection, dialect, old.record.version, digest)
    # Spider would compare all columns, some with their new values, if an update assigned the id.
    statement = insert(sessions) if old is None else update(sessions).where(c.id == values.pop("id"))
    await connection.execute(statement.values(values), parameters(row(digest, record, data)))
    if live is None or live.labels != record.labels:
        await labels.index(connection, digest, record, old.record if old else None)
    return record


async def touch(
    connection: AsyncConnection,
    digest: bytes,
    clock: Callable[[], int],
    ttl: int | Default | Keep | None,
    every: int | None,
    after: int | None,
) -> Record | None:
    """Touch a session if it lives; see `Record.touched`.

    Args:
        connection: In a transaction.
        digest: Which session.
        clock: Gives the time.
        ttl: The new idle timeout.
        every: The storage's ``touch_every``.
        after: When a touch was sent that may still arrive: it does nothing then, as this one is noted as later.
    """
    for stored in await locked(connection, c.id == digest):
        if not stored.record.live(now := clock()):
            return None
        touched = stored.record.touched(now, ttl, every)
        if after is not None:
            touched = replace_record(touched, touched_at=max(now, after + 1, stored.record.used_at))
        if touched is not stored.record:
            values = {"ttl": touched.ttl, "expires_at": touched.expires_at, "touched_at": touched.touched_at}
            await connection.execute(update(sessions).where(c.id == digest).values(values))
        return touched
    return None


async def end(
    connection: AsyncConnection, dialect: Dialect, rows: Sequence[Stored], tombstone: int, ended: int | None
) -> None:
    """Delete locked sessions that live, leaving tombstones with a ``seq`` of the end's own, and its time if any."""
    await remove(connection, dialect, rows)
    gone = [(stored.id, stored.record.version) for stored in rows]
    await chunks.leave_tombstones(connection, dialect, tombstone, gone, ended=ended)


async def remove(
    connection: AsyncConnection, dialect: Dialect, rows: Sequence[Stored], *still: ColumnElement[bool]
) -> None:
    """Delete locked sessions, marking their chunks as superseded.

    Args:
        connection: In a transaction.
        dialect: The database.
        rows: The sessions.
        still: What must hold of each yet, for databases that take ``SKIP LOCKED`` and lock nothing.
    """
    for stored in rows:
        if stored.chunked:
            await chunks.mark(connection, dialect, stored.record.version, stored.id)
    if rows:
        await connection.execute(delete(sessions).where(c.id.in_([stored.id for stored in rows]), *still))


async def move(
    connection: AsyncConnection,
    dialect: Dialect,
    digest: bytes,
    new_digest: bytes,
    now: int,
    copied: Record | None,
    tombstone: int,
    rebinding: Rebinding | None = None,
) -> Stored | Record:
    """Give a session a new id.

    Args:
        connection: In a transaction.
        dialect: The database.
        digest: The old id.
        new_digest: The new one.
        now: The time.
        copied: The version whose chunks the new id already has.
        tombstone: The ``seq`` of its tombstone at the old id.
        rebinding: Done to the session as well.

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
    record = old.record
    if rebinding is not None:
        await rebind(connection, old, new_digest, rebinding)
        record = record.renamed(rebinding)
    if taken is not None:
        await remove(connection, dialect, [taken])
    await chunks.leave_tombstones(connection, dialect, tombstone, [(digest, old.record.version)])
    await chunks.leave_forwarding(connection, digest, new_digest, now)
    if old.chunked:
        await chunks.release(connection, old.record.version, new_digest)
        await chunks.mark(connection, dialect, old.record.version, digest)
    await connection.execute(update(sessions).where(c.id == digest).values(id=new_digest))
    await labels.index(connection, digest, None, record)
    await labels.index(connection, new_digest, record, taken.record if taken else None)
    return record


async def rebind(connection: AsyncConnection, stored: Stored, to: bytes, rebinding: Rebinding) -> bool:
    """Rebind a locked session, whose chunks are written to a digest.

    Returns:
        Whether something changed.
    """
    renamed = stored.record.renamed(rebinding)
    changed = renamed is not stored.record
    values: dict[str, Any] = {}
    if changed:
        values = {"subject": renamed.subject, "client": renamed.client, "labels": renamed.labels}
        await labels.index(connection, stored.id, renamed, stored.record)
    if stored.chunked:
        changed |= await chunks.rebind(connection, stored.record.version, stored.id, to, rebinding)
    else:
        found = await connection.execute(select(c.data).where(c.id == stored.id))
        data = bytes(found.scalar_one())
        if (rebound := rebinding.data(data)) is not data:
            changed, values["data"] = True, rebound
    if values:
        await connection.execute(update(sessions).where(c.id == stored.id).values(values))
    return changed
