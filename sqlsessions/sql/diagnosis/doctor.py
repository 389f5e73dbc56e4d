"""The findings of `sqlsessions doctor` about a database; nothing is changed."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from ...records import Clock, microseconds
from ..engine.database import Database
from . import diagnosis_of
from .base import Finding, Plan, State, scalar
from .humanize import share, size
from .statistics import Orphans, Totals, orphans, totals

__all__ = ["Finding", "Plan", "State", "of_database", "of_tables"]

ROUND_TRIPS = 7
SLOW_ROUND_TRIP = 0.01
"""Seconds; every request of a service waits for one or two round trips."""

NOTED_SKEW, WRONG_SKEW = 1.0, 5.0
"""Seconds; the clocks of all services on one database must agree to within a few."""

DAY = 24 * 60 * 60
MANY_EXPIRED = 1000
MANY_ORPHANS = 100 * 1024 * 1024
"""Bytes."""


@dataclass(frozen=True, slots=True)
class _Clocks:
    """The duration of a round trip and the lead of the database's clock, in seconds."""

    round_trip: float
    ahead: float | None


async def of_database(database: Database, plan: Plan, clock: Clock = time.time) -> AsyncIterator[Finding]:
    """Examine the server and its settings."""
    diagnosis = diagnosis_of(database.dialect)

    async def settings(connection: AsyncConnection) -> list[Finding]:
        return [finding async for finding in diagnosis.settings(connection, plan)]

    version = await database.run(partial(scalar, query=diagnosis.version))
    seen = await database.run(partial(_clocks, query=diagnosis.clock, clock=clock))
    trip = statistics.median(each.round_trip for each in seen)
    state, advice = State.OK, None
    if trip > SLOW_ROUND_TRIP:
        state, advice = State.NOTE, "Every request waits for this: move the service near its database."
    yield Finding("connection", state, f"{version}, {trip * 1000:.1f} ms for a round trip", advice)
    best = min(seen, key=lambda each: each.round_trip)
    if best.ahead is not None:
        yield _skew(best.ahead)
    for finding in await database.run(settings):
        yield finding


async def of_tables(database: Database, plan: Plan, clock: Clock = time.time) -> AsyncIterator[Finding]:
    """Examine the tables of sqlsessions, which must exist."""
    now = microseconds(clock)
    diagnosis = diagnosis_of(database.dialect)

    async def tables(connection: AsyncConnection) -> list[Finding]:
        return [finding async for finding in diagnosis.tables(connection, plan)]

    for finding in await database.run(tables):
        yield finding
    yield _expired(await database.run(partial(totals, now=now)), clock)
    yield _orphans(await database.run(partial(orphans, now=database.dialect.now())))


async def _clocks(connection: AsyncConnection, query: str | None, clock: Clock) -> list[_Clocks]:
    found = []
    for _ in range(ROUND_TRIPS):
        asked_at, began = clock(), time.perf_counter()
        theirs = await scalar(connection, query or "SELECT 1")
        took = time.perf_counter() - began
        ahead = None if query is None else int(theirs) / 1_000_000 - (asked_at + took / 2)
        found.append(_Clocks(took, ahead))
    return found


def _skew(ahead: float) -> Finding:
    off = abs(ahead)
    if off <= NOTED_SKEW:
        return Finding("clock", State.OK, f"within {max(off, 0.001):.3f} s of this host's")
    seen = f"{off:.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    advice = "Sessions expire by the services' clocks, which must agree: synchronise all with NTP."
    return Finding("clock", State.PROBLEM if off > WRONG_SKEW else State.NOTE, seen, advice)


def _expired(found: Totals, clock: Clock) -> Finding:
    if not found.expired:
        return Finding("expired sessions", State.OK, f"none, beside {found.live:,} live ones")
    everything = found.expired + found.live
    seen = f"{found.expired:,} not purged, {share(found.expired, everything)} of all, {size(found.expired_bytes)}"
    since = found.expired_since
    waiting = 0.0 if since is None else (datetime.fromtimestamp(clock(), UTC) - since).total_seconds()
    if waiting <= DAY:
        return Finding("expired sessions", State.OK, seen)
    mostly = found.expired > found.live and found.expired >= MANY_EXPIRED
    return Finding(
        "expired sessions",
        State.PROBLEM if mostly else State.NOTE,
        f"{seen}; the oldest for {waiting / DAY:.0f} days",
        "No purge seems to run: let a service purge, or run `sqlsessions purge` every hour.",
    )


def _orphans(found: Orphans) -> Finding:
    if not found.overdue:
        seen = "none overdue" if found.waiting else "none"
        return Finding("orphaned chunks", State.OK, seen)
    seen = f"{found.overdue_chunks:,} chunks, {size(found.overdue_bytes)}"
    state = State.PROBLEM if found.overdue_bytes > MANY_ORPHANS else State.NOTE
    return Finding(
        "orphaned chunks", state, seen, "They take up space until `sqlsessions purge` deletes them."
    )
