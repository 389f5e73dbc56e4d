"""The findings of `sqlsessions doctor --security`; nothing is changed, and of data only its first bytes are read."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import LargeBinary, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ...records import Clock, microseconds
from ..engine.database import Database
from ..models import chunks, sessions
from ..statements.single import live_at
from . import diagnosis_of
from .base import Finding, Plan, State
from .namespaces import namespaces

ENCRYPTED = re.compile(rb"sq[SL]1(.{8})", re.DOTALL)
"""The beginning of what `EncryptedStorage` stores, with the name of the key, which says nothing of the key."""
HEADER = 12
SAMPLE = 10_000
"""Sessions whose beginning is looked at, of small and of large ones each."""
DAY = 24 * 60 * 60 * 1_000_000

c, k = sessions.c, chunks.c


async def of_security(database: Database, plan: Plan, clock: Clock = time.time) -> AsyncIterator[Finding]:
    """Examine what keeps sessions from others; the tables must exist."""
    diagnosis, now = diagnosis_of(database.dialect), microseconds(clock)

    async def access(connection: AsyncConnection) -> list[Finding]:
        return [finding async for finding in diagnosis.access(connection, plan)]

    for finding in await database.run(access):
        yield finding
    yield await database.run(partial(_lifetimes, now=now))
    yield _keys(await database.run(partial(_headers, now=now)))
    yield _namespaces(await database.run(partial(namespaces, now=now)))


async def _lifetimes(connection: AsyncConnection, now: int) -> Finding:
    wanted = select(
        func.count(),
        func.count(case((c.expires_at.is_(None), 1))),
        func.count(case((c.ends_at.is_(None), 1))),
        func.max(c.ttl),
    ).where(live_at(now))
    live, endless, unlimited, longest = (await connection.execute(wanted)).one()
    if not live:
        return Finding("lifetimes", State.OK, "no live sessions")
    if endless:
        seen = f"{endless:,} of {live:,} sessions never expire"
        return Finding("lifetimes", State.NOTE, seen, "Give them a ttl or a max_age, or end them.")
    idle = "" if longest is None else f"; idle timeouts of up to {int(longest) / DAY:,.1f} days"
    if unlimited:
        seen = f"{unlimited:,} of {live:,} sessions live on for as long as they are used{idle}"
        return Finding("lifetimes", State.NOTE, seen, "Set max_age, so that a stolen session ends.")
    return Finding("lifetimes", State.OK, f"every session has an end{idle}")


async def _headers(connection: AsyncConnection, now: int) -> list[bytes]:
    """The first bytes of some live sessions."""
    small = select(func.substr(c.data, 1, HEADER, type_=LargeBinary())).where(
        live_at(now), c.data.is_not(None)
    )
    large = (
        select(func.substr(k.data, 1, HEADER, type_=LargeBinary()))
        .join(sessions, and_(c.id == k.id, c.version == k.version))
        .where(live_at(now), c.data.is_(None), k.seq == 0)
    )
    return [
        bytes(head)
        for each in (small, large)
        for head in (await connection.execute(each.limit(SAMPLE))).scalars()
    ]


def _keys(headers: list[bytes]) -> Finding:
    found = Counter(match[1].hex() if (match := ENCRYPTED.match(head)) else None for head in headers)
    plain = found.pop(None, 0)
    if not headers:
        return Finding("encryption", State.OK, "no live sessions")
    if not found:
        advice = "Who reads the database reads their data: EncryptedStorage keeps it from them."
        return Finding("encryption", State.NOTE, f"none of {len(headers):,} sessions", advice)
    under = ", ".join(f"{number:,} under key {name}" for name, number in found.most_common(5))
    if plain:
        advice = "An EncryptedStorage refuses them: they are another service's, from before, or planted."
        return Finding("encryption", State.PROBLEM, f"{under}, {plain:,} not encrypted", advice)
    if len(found) > 1:
        advice = "Run `sqlsessions rekey` with the new key first, and remove the old one."
        return Finding("encryption", State.NOTE, under, advice)
    return Finding("encryption", State.OK, under)


def _namespaces(found: list[bytes | None]) -> Finding:
    named = len([each for each in found if each])
    if named and None in found:
        seen = f"{named:,}, and sessions of none"
        advice = (
            "A service without a namespace uses the same tables, or one has not moved all of its sessions."
        )
        return Finding("namespaces", State.NOTE, seen, advice)
    return Finding(
        "namespaces", State.OK, f"{named:,}" if named else "none: one service, or several that share"
    )
