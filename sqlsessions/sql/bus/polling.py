"""The bus of MariaDB and MySQL: notices that triggers leave in the database, which every process polls.

Each process reads all notices that are there, so that nothing depends on the order in which transactions commit. One
is deleted two seconds after a process has seen it; a process that does not poll as often has a gap, and knows that.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...cache.bus import Notice, TaskBus
from ...errors import SchemaOutOfDate
from ..dialects.base import SECOND
from ..engine.database import IDEMPOTENT, Database
from ..models import (
    NOTICED,
    NOTICED_KEY,
    NOTING_TRIGGERS,
    POLLED,
    POLLED_KEY,
    chunks,
    notices,
    sessions,
)
from ..statements.chunks import row_of

logger = logging.getLogger("sqlsessions")

PERIOD = 0.5  # seconds between two polls
GRACE = 2.0  # seconds for which a notice is there, at least
MOST = 10_000
"""Notices that are read at once; while there are more, caches are emptied."""
MOST_DELETED = 100_000
PER_DELETE = 1000

RENEWAL = 30.0  # seconds
ABANDONED = 60.0
"""Seconds after which it is as if nobody had polled."""
SETTLED = 60.0
"""Seconds after which no transaction is left that began before notices were left: longer than one of ours takes."""
RECHECK = 60.0  # seconds between two looks for triggers

NO_TRIGGERS = (
    "the table sessions leaves no notices of changes, so that caches are behind by up to max_staleness: run "
    "`sqlsessions upgrade` as a user who may create triggers, after `sqlsessions downgrade sqlsessions_0004` if the "
    "tables are newer than that"
)

NOT_CAUSAL = (
    "a read on this node of the cluster may miss what was written on another, so that caches are behind by up to "
    "max_staleness: set wsrep_sync_wait to 1, or with Group Replication, group_replication_consistency to BEFORE"
)

k, n = chunks.c, notices.c
_CLUSTER = (
    "SHOW SESSION VARIABLES WHERE Variable_name IN ('wsrep_on', 'wsrep_sync_wait', "
    "'group_replication_single_primary_mode', 'group_replication_consistency')"
)


class Seen(NamedTuple):
    """What a poll has found.

    Attributes:
        notices: The number of each, and what it tells of; one more than `MOST` at most.
        noticed: Whether triggers leave notices.
        idle: Seconds since somebody said that it polls; None if nobody did.
        since: Seconds since when somebody has polled without a break.
    """

    notices: list[tuple[int, Notice]]
    noticed: bool
    idle: float | None
    since: float

    @property
    def attended(self) -> bool:
        """Whether notices are left, and not taken for abandoned."""
        return self.noticed and self.idle is not None and self.idle < ABANDONED

    @property
    def settled(self) -> bool:
        """Whether every transaction that commits leaves notices."""
        return self.attended and self.since >= SETTLED


class PollingBus(TaskBus):
    """Polls twice a second.

    Where there are no triggers, and for a minute after the first process of all began to poll, the state stays what it
    is: the cache's ``max_staleness`` alone bounds how far it is behind.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._polled: float | None = None
        self._seen: dict[int, float] = {}
        self._patience = 0.0
        self._unsettled = False

    def state(self) -> object | None:
        found = super().state()
        return "unsettled" if found is None and self._unsettled else found

    async def _serve(self) -> None:
        self._polled, self._seen, self._patience = None, {}, _patience()
        await self._check_rights()
        await self._attend()
        if obstacle := await self._find_obstacle():
            if self._obstacle != obstacle:
                logger.warning(obstacle)
            self._unsettled, self._obstacle = True, obstacle
            await asyncio.sleep(RECHECK)
            return
        try:
            while True:
                await self._poll()
                await asyncio.sleep(PERIOD)
        finally:
            self._unsettled = False

    async def _check_rights(self) -> None:
        """Raise if notices may not be read or deleted: what triggers leave would stay for ever."""
        with suppress(SchemaOutOfDate):  # there is no table of them
            await self._database.run(partial(_delete, numbers=[-1]), resolve=IDEMPOTENT)
            await self._database.run(_all_numbers)

    async def _attend(self) -> None:
        """Have triggers leave notices, and say that somebody polls them."""
        await self._database.transaction(partial(_attend, database=self._database), resolve=IDEMPOTENT)

    async def _find_obstacle(self) -> str | None:
        if not await self._database.run(_reads_are_causal):
            return NOT_CAUSAL
        leave = partial(_leaves_notices, database=self._database)
        try:
            left = await self._database.run(leave, resolve=IDEMPOTENT)
        except SchemaOutOfDate:
            left = False
        return None if left else NO_TRIGGERS

    async def _poll(self) -> None:
        began = time.monotonic()
        found = await self._database.run(partial(_look, database=self._database))
        now = time.monotonic()
        late = self._polled is not None and now - self._polled > GRACE
        too_many = len(found.notices) > MOST
        self._polled = began
        if late or too_many or not found.attended:
            self._note_gap()
        if not found.attended or found.idle is None or found.idle >= RENEWAL:
            await self._attend()
        numbers: Sequence[int] = [number for number, _ in found.notices]
        if too_many:
            numbers, now = await self._database.run(_all_numbers), time.monotonic()
        elif new := [notice for number, notice in found.notices if number not in self._seen]:
            self._deliver(new)
        self._seen = {number: self._seen.get(number, now) for number in numbers}
        self._unsettled = found.attended and not found.settled
        if found.settled and not too_many:
            self._prove(began)
        await self._clean(now)

    async def _clean(self, now: float) -> None:
        """Delete what every process has seen or has a gap for. Chance decides which process is the first to do so."""
        old = sorted(number for number, since in self._seen.items() if now - since > self._patience)
        for start in range(0, len(old), PER_DELETE):
            some = old[start : start + PER_DELETE]
            await self._database.run(partial(_delete, numbers=some), resolve=IDEMPOTENT)
        if old:
            self._patience = _patience()


def _patience() -> float:
    return random.uniform(1.1, 2.0) * GRACE  # noqa: S311 (no secret)


async def _look(connection: AsyncConnection, database: Database) -> Seen:
    """Read the notices, and then who attends to them: if it is as before, it was so when they were read."""
    rows = await connection.execute(select(notices).order_by(n.number).limit(MOST + 1))
    found = [(number, Notice(bytes(digest), version)) for number, digest, version in rows]
    noticed, idle, since = await _attendance(connection, database)
    return Seen(found, noticed, idle, since)


async def _attendance(connection: AsyncConnection, database: Database) -> tuple[bool, float | None, float]:
    """Whether triggers leave notices, how long ago somebody said that it polls, and since when somebody does."""
    wanted = select(k.seq, k.data, database.dialect.now()).where(or_(row_of(NOTICED_KEY), row_of(POLLED_KEY)))
    rows = {seq: (bytes(data), now) for seq, data, now in await connection.execute(wanted)}
    if POLLED not in rows:
        return NOTICED in rows, None, 0.0
    data, now = rows[POLLED]
    last, since = (int.from_bytes(data[start : start + 8], "big") for start in (0, 8))
    return NOTICED in rows, (now - last) / SECOND, (now - since) / SECOND


async def _attend(connection: AsyncConnection, database: Database) -> None:
    noticed, idle, since = await _attendance(connection, database)
    if not noticed:
        await connection.execute(insert(chunks).values(**NOTICED_KEY, data=b""))
    if not noticed or idle is None or idle >= ABANDONED:
        since = 0.0
    now: int = (await connection.execute(select(database.dialect.now()))).scalar_one()
    data = database.dialect.stamp((now - round(since * SECOND)).to_bytes(8, "big"))
    if idle is None:
        await connection.execute(insert(chunks).values(**POLLED_KEY, data=data))
    else:
        await connection.execute(update(chunks).where(row_of(POLLED_KEY)).values(data=data))


async def _leaves_notices(connection: AsyncConnection, database: Database) -> bool:
    """Whether triggers leave notices, by a session that is written and ended and never was."""
    digest = secrets.token_bytes(32)
    c = sessions.c
    new = dict.fromkeys(("size", "created_at", "updated_at", "expires_at"), 0)
    for statement in database.dialect.begin:
        await connection.exec_driver_sql(statement)
    try:
        await connection.execute(insert(sessions).values(id=digest, version=1, data=b"", **new))
        await connection.execute(update(sessions).where(c.id == digest).values(version=2))
        await connection.execute(delete(sessions).where(c.id == digest))
        wanted = select(func.count()).where(n.id == digest)
        return bool((await connection.execute(wanted)).scalar_one() == len(NOTING_TRIGGERS))
    finally:
        await connection.exec_driver_sql("ROLLBACK")


async def _reads_are_causal(connection: AsyncConnection) -> bool:
    """Whether a read sees what was committed before on any node; it does where one node takes all writes."""
    rows = await connection.execute(text(_CLUSTER))
    values = {str(name): str(value) for name, value in rows}
    if values.get("wsrep_on", "OFF") in ("ON", "1") and not int(values.get("wsrep_sync_wait", 0)) & 1:
        return False
    one_primary = values.get("group_replication_single_primary_mode", "ON") in ("ON", "1")
    return one_primary or values.get("group_replication_consistency") in ("BEFORE", "BEFORE_AND_AFTER")


async def _all_numbers(connection: AsyncConnection) -> Sequence[int]:
    wanted = select(n.number).order_by(n.number).limit(MOST_DELETED)
    return (await connection.execute(wanted)).scalars().all()


async def _delete(connection: AsyncConnection, numbers: Sequence[int]) -> None:
    await connection.execute(delete(notices).where(n.number.in_(numbers)))
