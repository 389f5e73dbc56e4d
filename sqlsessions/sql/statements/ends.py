"""Records of sessions that have ended, and the rows that say which namespaces keep them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._digests import NAMESPACED, PREFIX
from ..._validation import MAX_SUBJECT, is_reserved
from ...info import EndedSession, EndReason
from ...records import Record, encoded_client, ended_session, renamed
from ..models import KEEPING, chunks, ends
from .listing import PAGE, within
from .transactions import Stored

WEEK = 7 * 24 * 3600 * 1_000_000
"""Microseconds for which purges go on to keep sessions that have expired, at least, after no service said so any more."""

e, k = ends.c, chunks.c

Row = Sequence[Any]
"""Of a record: when it ended, its digest and version, and the other columns of `COLUMNS`."""

COLUMNS = (e.ended_at, e.id, e.version, e.reason, e.created_at, e.used_at, e.subject, e.client)


class Kept(NamedTuple):
    """What a namespace keeps.

    Attributes:
        span: For how long, in microseconds.
        said: When a service of it said so last.
    """

    span: int
    said: int

    def holds(self, now: int) -> bool:
        """Whether what expires now is kept: no longer once its services are gone, or keep nothing any more."""
        return now - self.said < max(self.span, WEEK)


def namespace_of(digest: bytes) -> bytes:
    """What the digests of a digest's namespace begin with; empty for no namespace."""
    return digest[:PREFIX] if digest.startswith(NAMESPACED) else b""


def values_of(digest: bytes, record: Record, reason: EndReason, now: int) -> dict[str, Any]:
    """The row of the record of a session that ends."""
    return {
        "ended_at": record.ended_at(reason, now),
        "id": digest,
        "version": record.version,
        "reason": reason,
        "subject": record.subject,
        "created_at": record.created_at,
        "used_at": record.used_at,
        "client": record.client,
    }


async def keep(connection: AsyncConnection, rows: Sequence[Stored], reason: EndReason, now: int) -> None:
    """Keep records of sessions that end, in the transaction that ends them."""
    await insert_records(connection, [values_of(stored.id, stored.record, reason, now) for stored in rows])


async def insert_records(connection: AsyncConnection, values: Sequence[dict[str, Any]]) -> None:
    """Keep records, each given by `values_of`; none of what is kept beside sessions."""
    values = [each for each in values if not is_reserved(each["subject"])]
    if values:
        await connection.execute(insert(ends), values)


def page_of_ended(
    rows: ColumnElement[bool], own: ColumnElement[bool] | None, since: int | None, after: Row | None
) -> Select[*tuple[Any, ...]]:
    """A page of records, the last end first.

    Args:
        rows: Of a namespace.
        own: Of a subject; None is everybody's.
        since: When they ended at the earliest.
        after: The last of the page before.
    """
    wanted = select(*COLUMNS).where(rows).limit(PAGE)
    wanted = wanted.order_by(e.ended_at.desc(), e.id.desc(), e.version.desc())
    if own is not None:
        wanted = wanted.where(own)
    if since is not None:
        wanted = wanted.where(e.ended_at >= since)
    if after is None:
        return wanted
    time, id, version = after[:3]
    # The first condition is for the index: without it, each page looks at all of the pages before.
    before = or_(e.ended_at < time, e.id < id, and_(e.id == id, e.version < version))
    return wanted.where(e.ended_at <= time, before)


async def fetch_ended(connection: AsyncConnection, statement: Select[*tuple[Any, ...]]) -> list[Row]:
    """The records that a statement finds."""
    return [tuple(row) for row in await connection.execute(statement)]


def ended_of(row: Row) -> EndedSession:
    """A record as callers get it."""
    time, id, _, reason, *others = row
    return ended_session(bytes(id), reason, time, *others)


async def forget(connection: AsyncConnection, where: ColumnElement[bool]) -> int:
    """Delete records; how many."""
    return (await connection.execute(delete(ends).where(where))).rowcount


async def forget_before(connection: AsyncConnection, prefix: bytes, time: int, limit: int) -> int:
    """Delete about so many of the oldest records of a namespace, if they ended by a time; how many."""
    here = and_(within(prefix or None, id=e.id), e.ended_at <= time)
    nth = select(e.ended_at).where(here).order_by(e.ended_at).offset(limit - 1).limit(1)
    last = (await connection.execute(nth)).scalar()
    return await forget(connection, here if last is None else and_(here, e.ended_at <= last))


async def rename(connection: AsyncConnection, rows: Sequence[Row], name: Callable[[str], str]) -> int:
    """Give records other names; how many were changed."""
    changed = 0
    for row in rows:
        old = ended_of(row)
        new = renamed(old, name)
        if new is not old and len(new.subject or "") <= MAX_SUBJECT:  # one that does not fit stays
            time, id, version = row[:3]
            one = and_(e.ended_at == time, e.id == id, e.version == version)
            values = {"subject": new.subject, "client": encoded_client(new.client)}
            changed += (await connection.execute(update(ends).where(one).values(values))).rowcount
    return changed


async def say(connection: AsyncConnection, prefixes: Collection[bytes], kept: Kept) -> None:
    """Say that namespaces keep sessions that have ended."""
    data = kept.span.to_bytes(8, "big") + kept.said.to_bytes(8, "big")
    for prefix in sorted(prefixes):
        await connection.execute(delete(chunks).where(_saying(prefix)))
        row = {"version": -1, "id": prefix.ljust(32, b"\0"), "seq": KEEPING, "data": data}
        await connection.execute(insert(chunks).values(row))


async def find_kept(connection: AsyncConnection) -> dict[bytes, Kept]:
    """What each namespace keeps, by what its digests begin with."""
    found = await connection.execute(select(k.id, k.data).where(k.version == -1, k.seq == KEEPING))
    return {
        namespace_of(bytes(id)): Kept(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big"))
        for id, data in found
    }


async def unsay(connection: AsyncConnection, prefix: bytes) -> None:
    """Say no more that a namespace keeps anything, if no record is left."""
    if (
        await connection.execute(select(e.id).where(within(prefix or None, id=e.id)).limit(1))
    ).first() is None:
        await connection.execute(delete(chunks).where(_saying(prefix)))


def _saying(prefix: bytes) -> ColumnElement[bool]:
    return and_(k.version == -1, k.id == prefix.ljust(32, b"\0"), k.seq == KEEPING)
