"""Statistics of the sessions in a database, counted by the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, not_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, LargeBinary

from ...records import as_datetime
from ..engine.database import Database
from ..models import SUPERSEDED, chunks, sessions
from ..purge import SUPERSEDED_GRACE
from ..statements.single import CHUNKED, live_at
from . import diagnosis_of
from .humanize import KIB

BOUNDS = (KIB, 4 * KIB, 16 * KIB, 64 * KIB, KIB**2, 16 * KIB**2)
"""Upper bounds of the size classes, in bytes; the last class has none."""

TOP = 10
"""How many subjects are listed."""

s, k = sessions.c, chunks.c


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Live sessions of similar size.

    Attributes:
        up_to: The largest size of the class, in bytes; None in the last class.
        sessions: Number of sessions.
        bytes: Size of their data.
    """

    up_to: int | None
    sessions: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SubjectStatistics:
    """The live sessions of a subject."""

    subject: str
    sessions: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Orphans:
    """Data of large sessions that no session points at.

    Attributes:
        waiting: Sets of chunks within their grace period, that a write or a read may still use.
        overdue: Sets of chunks that a purge would delete.
        overdue_chunks: Number of their chunks.
        overdue_bytes: Size of these chunks.
    """

    waiting: int
    overdue: int
    overdue_chunks: int
    overdue_bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """All sessions.

    Attributes:
        live: Number of live sessions.
        bytes: Size of their data.
        largest_bytes: Size of the largest live session.
        chunked: Number of live sessions that are kept in chunks.
        expired: Number of expired sessions that are not purged yet.
        expired_bytes: Size of their data.
        expired_since: Expiry of the first of them.
        oldest_created_at: Creation of the oldest live session.
        last_updated_at: Last write of a live session.
        next_expires_at: Next expiry of a live session.
        with_subject: Number of live sessions that have a subject.
        sizes: The live sessions by size.
    """

    live: int
    bytes: int
    largest_bytes: int
    chunked: int
    expired: int
    expired_bytes: int
    expired_since: datetime | None
    oldest_created_at: datetime | None
    last_updated_at: datetime | None
    next_expires_at: datetime | None
    with_subject: int
    sizes: list[SizeClass]


@dataclass(frozen=True, slots=True)
class Statistics:
    """The contents of a database.

    Attributes:
        totals: All sessions.
        subjects: Number of subjects that have live sessions.
        top_subjects: The subjects with the most live sessions, up to 10.
        orphans: Data that no session points at.
        disk_bytes: Size of the tables on disk, with indexes; None if the database does not report it.
    """

    totals: Totals
    subjects: int
    top_subjects: list[SubjectStatistics]
    orphans: Orphans
    disk_bytes: int | None


async def statistics(database: Database, now: int) -> Statistics:
    """Count the contents of a database; reads the tables, but no session data.

    Args:
        database: The database.
        now: The time, in microseconds since 1970 UTC.
    """

    async def subjects(connection: AsyncConnection) -> tuple[int, list[SubjectStatistics]]:
        # By length too, since MySQL ignores trailing spaces when it compares.
        grouped = (
            select(s.subject, func.count().label("sessions"), _sum(s.size).label("bytes"))
            .where(live_at(now), s.subject.is_not(None))
            .group_by(s.subject, func.length(s.subject))
            .subquery()
        )
        number = (await connection.execute(select(func.count()).select_from(grouped))).scalar_one()
        found = await connection.execute(
            select(grouped).order_by(grouped.c.sessions.desc(), grouped.c.subject).limit(TOP)
        )
        return number, [SubjectStatistics(subject, count, int(size)) for subject, count, size in found]

    found = await database.run(lambda connection: totals(connection, now))
    number, top = await database.run(subjects)
    left = await database.run(partial(orphans, now=database.dialect.now()))
    disk = await database.run(diagnosis_of(database.dialect).disk_bytes)
    return Statistics(found, number, top, left, disk)


async def totals(connection: AsyncConnection, now: int) -> Totals:
    """Count all sessions, in one pass."""
    live, expired = live_at(now), not_(live_at(now))
    classes: list[ColumnElement[Any]] = []
    for above, up_to in zip((-1, *BOUNDS), (*BOUNDS, None), strict=True):
        here = and_(live, s.size > above, *([] if up_to is None else [s.size <= up_to]))
        classes += [_count(here), _sum(case((here, s.size), else_=0))]

    def of_live(column: ColumnElement[Any]) -> ColumnElement[Any]:
        return case((live, column))

    wanted = select(
        _count(live),
        _sum(case((live, s.size), else_=0)),
        func.max(of_live(s.size)),
        _count(and_(live, CHUNKED)),
        _count(expired),
        _sum(case((expired, s.size), else_=0)),
        func.min(case((expired, s.expires_at))),
        func.min(of_live(s.created_at)),
        func.max(of_live(s.updated_at)),
        func.min(of_live(s.expires_at)),
        _count(and_(live, s.subject.is_not(None))),
        *classes,
    )
    row = (await connection.execute(wanted)).one()
    numbers = [int(value or 0) for value in row]
    times = [None if value is None else as_datetime(int(value)) for value in row[6:10]]
    sizes = [
        SizeClass(up_to, numbers[11 + 2 * i], numbers[12 + 2 * i]) for i, up_to in enumerate((*BOUNDS, None))
    ]
    return Totals(*numbers[:6], *times, numbers[10], sizes)  # type: ignore[arg-type, call-arg]


async def orphans(connection: AsyncConnection, now: ColumnElement[int]) -> Orphans:
    """Count the chunks that no session points at, by the rules of a purge.

    Args:
        connection: To the database.
        now: Gives the time by its clock.
    """
    time = int((await connection.execute(select(now))).scalar_one())
    marks = chunks.alias()
    of_set = and_(marks.c.version == k.version, marks.c.id == k.id, marks.c.seq == SUPERSEDED)
    superseded_before = literal((time - SUPERSEDED_GRACE).to_bytes(8, "big"), LargeBinary())
    overdue = and_(marks.c.data.is_not(None), marks.c.data <= superseded_before)
    first = k.seq == 0
    wanted = (
        select(
            _count(and_(first, not_(overdue))),
            _count(and_(first, overdue)),
            _count(overdue),
            _sum(case((overdue, func.length(k.data)), else_=0)),
        )
        .select_from(
            chunks.outerjoin(sessions, and_(s.id == k.id, s.version == k.version)).outerjoin(marks, of_set)
        )
        .where(k.seq >= 0, s.id.is_(None))
    )
    row = (await connection.execute(wanted)).one()
    return Orphans(*(int(value or 0) for value in row))


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return type_coerce(func.sum(case((condition, 1), else_=0)), BigInteger())


def _sum(column: ColumnElement[int]) -> ColumnElement[int]:
    return type_coerce(func.sum(column), BigInteger())
