"""The index of labels, by which sessions are found; whether a session has a label, its own row says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, insert, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ...records import Record, decoded_labels, label_digest
from ..models import labels, sessions
from .listing import PAGE, fetch
from .single import RECORD, live_at

c, entry = sessions.c, labels.c

Key = tuple[bytes, bytes, int]
"""Of an entry: the digest of the label, the session, and the version that made the entry."""


def has_label(record: Record, label: str) -> bool:
    """Whether a session has a label."""
    return label in decoded_labels(record.labels)


async def index(
    connection: AsyncConnection, digest: bytes, record: Record | None, before: Record | None
) -> None:
    """Write the entries of a session anew. Its row is locked, or was inserted.

    Args:
        connection: In a transaction.
        digest: The session.
        record: As it is now; None if it is not there any more.
        before: As it was; None if it was not there.
    """
    now = [] if record is None else [label_digest(label) for label in decoded_labels(record.labels)]
    old = [] if before is None else [label_digest(label) for label in decoded_labels(before.labels)]
    if gone := {*now, *old}:
        await connection.execute(delete(labels).where(entry.label.in_(gone), entry.id == digest))
    if now:
        assert record is not None
        rows = [{"label": label, "id": digest, "version": record.version} for label in sorted(now)]
        await connection.execute(insert(labels), rows)


async def pages_of(
    label: str, rows: ColumnElement[bool], run: Callable[[Any], Awaitable[Any]], now: Callable[[], int]
) -> AsyncIterator[list[tuple[bytes, Record]]]:
    """The live sessions with a label, by id, page by page.

    Args:
        label: The label.
        rows: Of a namespace.
        run: Runs a page's statement on the database.
        now: Gives the time.
    """
    after, full = b"", True
    while full:
        page = await run(partial(fetch, statement=_page(label, rows, after, now())))
        if full := len(page) == PAGE:
            after = page[-1][0]
        yield [(digest, record) for digest, record in page if has_label(record, label)]


def _page(label: str, rows: ColumnElement[bool], after: bytes, now: int) -> Select[*tuple[Any, ...]]:
    return (
        select(c.id, *RECORD)
        .join(labels, entry.id == c.id)
        .where(entry.label == label_digest(label), entry.id > after, rows, live_at(now))
        .order_by(entry.id)
        .limit(PAGE)
    )


async def outdated(connection: AsyncConnection, limit: int) -> list[Key]:
    """Some entries of sessions that are gone, or were replaced by one without labels."""
    wanted = (
        select(entry.label, entry.id, entry.version)
        .select_from(labels.outerjoin(sessions, c.id == entry.id))
        .where(or_(c.id.is_(None), c.labels.is_(None)))
        .limit(limit)
    )
    return [(bytes(label), bytes(id), version) for label, id, version in await connection.execute(wanted)]


async def forget(connection: AsyncConnection, keys: Sequence[Key]) -> None:
    """Delete entries, unless they were written again since."""
    key = tuple_(entry.label, entry.id, entry.version)
    await connection.execute(delete(labels).where(key.in_(keys)))
