"""Lists of live sessions, page by page, and which rows are those of a namespace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._digests import NAMESPACED
from ...records import Record
from ..models import sessions
from .single import RECORD, live_at

KEYS_PER_STATEMENT = 256
PAGE = 500
"""Sessions that are listed, or ended, at once."""

c = sessions.c


def within(*prefixes: bytes | None, id: ColumnElement[bytes] = c.id) -> ColumnElement[bool]:
    """The rows of namespaces, each of which is a range of the primary key; None are those of no namespace."""
    return (
        or_(*(_of_one(prefix, id) for prefix in prefixes)) if len(prefixes) > 1 else _of_one(prefixes[0], id)
    )


def _of_one(prefix: bytes | None, id: ColumnElement[bytes]) -> ColumnElement[bool]:
    first = prefix or NAMESPACED
    after = (int.from_bytes(first, "big") + 1).to_bytes(len(first), "big")
    return and_(id >= first, id < after) if prefix else or_(id < first, id >= after)


def page_of(
    rows: ColumnElement[bool],
    own: ColumnElement[bool] | None,
    after: tuple[bytes, Record] | None,
    now: int,
    limit: int,
) -> Select[*tuple[Any, ...]]:
    """A page of live sessions: by id, or one subject's, the newest first.

    Args:
        rows: Of a namespace.
        own: Of a subject; None is everybody's.
        after: The last of the page before.
        now: The time.
        limit: How many.
    """
    wanted = select(c.id, *RECORD).where(rows, live_at(now)).limit(limit)
    if own is None:
        wanted = wanted.order_by(c.id)
        return wanted if after is None else wanted.where(c.id > after[0])
    wanted = wanted.where(own).order_by(c.created_at.desc(), c.id.desc())
    if after is None:
        return wanted
    last, time = after[0], after[1].created_at
    # The first condition is for the index: without it, each page looks at all of the pages before.
    return wanted.where(c.created_at <= time, or_(c.created_at < time, c.id < last))


async def fetch(
    connection: AsyncConnection, statement: Select[*tuple[Any, ...]]
) -> list[tuple[bytes, Record]]:
    """The sessions that a statement finds, by id."""
    return [(found[0], Record(*found[1:])) for found in await connection.execute(statement)]


def batches(digests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Digests, as many as one statement names."""
    for start in range(0, len(digests), KEYS_PER_STATEMENT):
        yield digests[start : start + KEYS_PER_STATEMENT]
