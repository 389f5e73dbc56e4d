"""The purge: deletes expired sessions, orphaned chunks and old tombstones, in short statements."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    delete,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from ..purging import Purged
from ..records import FORWARDING
from .dialects import HOUR, Dialect
from .engine.database import IDEMPOTENT, Database
from .keeping import Keeping
from .models import (
    LISTENING,
    MOVED,
    NOTICED_KEY,
    POLLED_KEY,
    SUPERSEDED,
    TOMBSTONE,
    chunks,
    notices,
    sessions,
)
from .statements import ends, labels, listing, transactions
from .statements.chunks import RESERVED, mark, row_of

SUPERSEDED_GRACE = 60 * 1_000_000
"""Microseconds for which a superseded version stays readable."""

LISTENING_GRACE = HOUR
"""Microseconds until nobody is taken to listen any more; who does, says so each minute."""

POLLING_GRACE = 2 * 60 * 1_000_000
"""Microseconds until nobody is taken to poll any more; who does, says so each minute, and deletes notices itself."""

ROWS_PER_STATEMENT = 100
"""So few that concurrent reads and writes are hardly delayed."""

CHUNKS_PER_DELETE = 100

NOTICES_PER_DELETE = 1000

RECORDS_PER_DELETE = 1000

s, k = sessions.c, chunks.c


@dataclass(frozen=True, slots=True)
class Purge:
    """A purge of a database.

    Args:
        database: The database.
        keeping: What the storage keeps of sessions that have ended; it gives the time.
        batch_size: Sessions looked at in one batch.
        max_batches: Stop after this many batches; None goes on until done.
        on_expired: Awaited with the digests of the sessions that were deleted. None spares fetching them.
    """

    database: Database
    keeping: Keeping
    batch_size: int
    max_batches: int | None = None
    on_expired: Callable[[Sequence[bytes]], Awaitable[None]] | None = None

    async def steps(self) -> AsyncGenerator[Purged]:
        """Delete in short statements, in the order of the index; yields after each what it deleted."""
        await self.keeping.announce()
        kept = await self._run(ends.find_kept)
        keeping = {prefix for prefix, each in kept.items() if each.holds(self.keeping.now())}
        looked_at = 0
        most = None if self.max_batches is None else self.max_batches * self.batch_size
        bucket: int | None = None
        while (
            bucket := await self._run(_next_bucket, after=bucket, last=self.keeping.now() // HOUR)
        ) is not None:
            after: bytes | None = b""
            while after is not None:
                left = self.batch_size if most is None else most - looked_at
                if (size := min(self.batch_size, ROWS_PER_STATEMENT, left)) == 0:
                    return
                after, deleted = await self._range(bucket, after, size, keeping)
                looked_at += size
                yield Purged(sessions=deleted)
        batches = None if self.max_batches is None else self.max_batches - looked_at // self.batch_size
        now = int(await self._run(_now, now=self.database.dialect.now()))
        async for step in self._orphans(batches, now):
            yield step
        async for step in self._left(now):
            yield step
        for prefix, each in kept.items():
            async for step in self._records(prefix, each):
                yield step

    async def _records(self, prefix: bytes, kept: ends.Kept) -> AsyncIterator[Purged]:
        """Delete the records of sessions that ended so long ago that a namespace does not keep them any more."""
        last = self.keeping.now() - kept.span
        forget = partial(ends.forget_before, prefix=prefix, time=last, limit=RECORDS_PER_DELETE)
        while await self.database.run(forget, resolve=IDEMPOTENT):
            yield Purged()
        if not kept.holds(self.keeping.now()):
            await self.database.transaction(partial(ends.unsay, prefix=prefix), resolve=IDEMPOTENT)

    async def _left(self, now: int) -> AsyncIterator[Purged]:
        """Delete what sessions and listeners have left besides chunks."""
        while entries := await self._run(labels.outdated, limit=CHUNKS_PER_DELETE):
            await self.database.run(partial(labels.forget, keys=entries), resolve=IDEMPOTENT)
            yield Purged()
        # Tombstones, once no operation can be in doubt about their sessions any more.
        async for step in self._notes(k.seq <= TOMBSTONE, now - SUPERSEDED_GRACE):
            yield step
        async for step in self._notes(k.seq == MOVED, self.keeping.now() - FORWARDING):
            yield step
        # Without these, triggers send no notices: nobody has listened for long.
        async for step in self._notes(k.seq == LISTENING, now - LISTENING_GRACE):
            yield step
        if self.database.dialect.polled:
            async for step in self._notices(now):
                yield step

    async def _run(self, work: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        return await self.database.run(partial(work, **arguments))

    async def _range(
        self, bucket: int, after: bytes, size: int, keeping: Collection[bytes]
    ) -> tuple[bytes | None, int]:
        """Delete the expired ones among some sessions of a bucket, without fetching them if possible.

        Args:
            bucket: The bucket.
            after: The id of the last session before these.
            size: How many.
            keeping: The namespaces that keep records of sessions that have ended.

        Returns:
            The id of the last of these sessions, None at the end of the bucket; and how many were deleted.
        """
        here = and_(s.expires_bucket == bucket, s.id > after)
        end: bytes | None = await self._run(_nth, where=here, number=size)
        if end is not None:
            here = and_(here, s.id <= end)
        deleted = 0
        if self.on_expired is None and not keeping:
            # In the order of the index, and so of ids, as batches of writes lock them.
            plain = delete(sessions).where(here, s.expires_at <= self.keeping.now(), s.data.is_not(None))
            deleted = await self.database.run(partial(_count, statement=plain), resolve=IDEMPOTENT)
        if deleted < size:
            deleted += await self._others(here, keeping)
        return end, deleted

    async def forget(self, subject: str) -> int:
        """Delete a subject's sessions that have expired, and the records of those that ended; how many records."""
        own = self.database.dialect.subject_is(s.subject, records.checked_subject(subject))
        due = and_(self.keeping.rows, own, s.expires_at <= self.keeping.now())
        for some in listing.batches(await self._run(_ids, where=due)):
            await self._purge_rows(some, (), skip=False)
        return await self.keeping.forget(subject)

    async def _others(self, here: ColumnElement[bool], keeping: Collection[bytes]) -> int:
        """Delete the expired ones that have chunks, a hook or a record; correct the bucket of those that live longer."""
        hour = self.database.dialect.hour(s.expires_at)
        due = or_(s.expires_at.is_(None), s.expires_at <= self.keeping.now(), hour > s.expires_bucket)
        others = await self._run(_ids, where=and_(here, due))
        return await self._purge_rows(others, keeping) if others else 0

    async def _purge_rows(
        self, ids: Sequence[bytes], keeping: Collection[bytes], *, skip: bool = True
    ) -> int:
        work = partial(
            _purge_rows,
            dialect=self.database.dialect,
            ids=ids,
            clock=self.keeping.now,
            keeping=keeping,
            skip=skip,
        )
        expired = await self.database.transaction(work, resolve=IDEMPOTENT)
        if expired and self.on_expired:
            await self.on_expired(expired)
        return len(expired)

    async def _orphans(self, max_batches: int | None, now: int) -> AsyncIterator[Purged]:
        """Delete sets of chunks that no session points at, once their grace period is over.

        When a set was staged is not known: its day counts from the first purge that finds it.
        """
        after: tuple[int, bytes] | None = None
        batches = 0
        while max_batches is None or batches < max_batches:
            found = await self._run(_orphans, after=after, limit=self.batch_size)
            for version, digest, superseded in found:
                if superseded is None:  # it is being written, or was left behind: the next purges will see
                    marking = partial(
                        mark, dialect=self.database.dialect, version=version, digest=digest, later=RESERVED
                    )
                    await self.database.transaction(marking, resolve=IDEMPOTENT)
                elif int.from_bytes(superseded, "big") <= now - SUPERSEDED_GRACE:
                    async for step in self._set(version, digest):
                        yield step
            if len(found) < self.batch_size:
                break
            after = found[-1][:2]
            batches += 1

    async def _set(self, version: int, digest: bytes) -> AsyncIterator[Purged]:
        """Delete a set from its end: if interrupted, its first chunk still identifies it."""
        pointed_at = exists().where(s.id == digest, s.version == version)
        one_set = and_(k.version == version, k.id == digest, not_(pointed_at))
        first = await self._run(_last, where=one_set) - CHUNKS_PER_DELETE + 1
        while True:
            cut = delete(chunks).where(one_set, k.seq >= max(first, SUPERSEDED))
            yield Purged(chunks=await self.database.run(partial(_count, statement=cut), resolve=IDEMPOTENT))
            if first <= SUPERSEDED:
                return
            first -= CHUNKS_PER_DELETE

    async def _notes(self, kind: ColumnElement[bool], last: int) -> AsyncIterator[Purged]:
        """Delete special rows of a kind that begin with a time, up to the last one."""
        until = (last + 1).to_bytes(8, "big")
        notes = and_(k.version == 0, kind)
        after: bytes | None = b""
        while after is not None:
            here = and_(notes, k.id > after)
            if (end := await self._run(_nth_note, where=here)) is not None:
                here = and_(here, k.id <= end)
            old = delete(chunks).where(here, k.data < literal(until, LargeBinary()))
            if await self.database.run(partial(_count, statement=old), resolve=IDEMPOTENT):
                yield Purged()
            after = end

    async def _notices(self, now: int) -> AsyncIterator[Purged]:
        """Delete the notices that nobody polls, and let triggers leave none if nobody has polled for long."""
        n = notices.c
        some = select(n.number).order_by(n.number).limit(NOTICES_PER_DELETE)
        while not await self._run(_polled, since=now - POLLING_GRACE):
            if not (numbers := await self._run(_column, wanted=some)):
                break
            old = delete(notices).where(n.number.in_(numbers))
            await self.database.run(partial(_count, statement=old), resolve=IDEMPOTENT)
            yield Purged()
        forget = partial(_forget_polls, before=now - LISTENING_GRACE)
        await self.database.transaction(forget, resolve=IDEMPOTENT)


async def count_expired(database: Database, now: int) -> int:
    """Count the expired sessions that are not purged yet."""
    expired = select(func.count()).where(s.expires_bucket <= now // HOUR, s.expires_at <= now)

    async def count(connection: AsyncConnection) -> int:
        return (await connection.execute(expired.select_from(sessions))).scalar_one()

    return await database.run(count)


async def _next_bucket(connection: AsyncConnection, after: int | None, last: int) -> int | None:
    """The first bucket after another that may hold expired sessions."""
    wanted = select(func.min(s.expires_bucket)).where(s.expires_bucket <= last)
    if after is not None:
        wanted = wanted.where(s.expires_bucket > after)
    first: int | None = (await connection.execute(wanted)).scalar()
    return first


async def _nth(connection: AsyncConnection, where: ColumnElement[bool], number: int) -> bytes | None:
    wanted = select(s.id).where(where).order_by(s.id).offset(number - 1).limit(1)
    found: bytes | None = (await connection.execute(wanted)).scalar()
    return found


async def _now(connection: AsyncConnection, now: ColumnElement[int]) -> int:
    return int((await connection.execute(select(now))).scalar_one())


async def _nth_note(connection: AsyncConnection, where: ColumnElement[bool]) -> bytes | None:
    wanted = select(k.id).where(where).order_by(k.id).offset(CHUNKS_PER_DELETE - 1).limit(1)
    found: bytes | None = (await connection.execute(wanted)).scalar()
    return found


async def _ids(connection: AsyncConnection, where: ColumnElement[bool]) -> list[bytes]:
    return list((await connection.execute(select(s.id).where(where))).scalars())


async def _column(connection: AsyncConnection, wanted: Select[*tuple[Any, ...]]) -> list[int]:
    return list((await connection.execute(wanted)).scalars())


async def _polled(connection: AsyncConnection, since: int) -> bool:
    """Whether somebody has said since then that it polls notices."""
    found = (await connection.execute(select(k.data).where(row_of(POLLED_KEY)))).scalar()
    return found is not None and int.from_bytes(found[:8], "big") >= since


async def _forget_polls(connection: AsyncConnection, before: int) -> None:
    """Let triggers leave no notices if nobody has said since then that it polls them."""
    until = literal(before.to_bytes(8, "big"), LargeBinary())
    await connection.execute(delete(chunks).where(row_of(POLLED_KEY), k.data < until))
    if (await connection.execute(select(k.seq).where(row_of(POLLED_KEY)))).first() is None:
        await connection.execute(delete(chunks).where(row_of(NOTICED_KEY)))


async def _count(connection: AsyncConnection, statement: Any) -> int:
    count: int = (await connection.execute(statement)).rowcount
    return count


async def _last(connection: AsyncConnection, where: ColumnElement[bool]) -> int:
    """The number of a set's last chunk."""
    wanted = select(k.seq).where(where).order_by(k.seq.desc()).limit(1)
    return (await connection.execute(wanted)).scalar() or 0


async def _purge_rows(
    connection: AsyncConnection,
    dialect: Dialect,
    ids: Sequence[bytes],
    clock: Callable[[], int],
    keeping: Collection[bytes],
    *,
    skip: bool,
) -> list[bytes]:
    """Delete the expired ones of some sessions and return them; correct the buckets of the others."""
    now = clock()
    rows = await transactions.locked(connection, s.id.in_(ids), skip=skip)
    expired = [row for row in rows if not row.record.live(now)]
    await transactions.remove(connection, dialect, expired, s.expires_at <= now)
    kept = [row for row in expired if ends.namespace_of(row.id) in keeping]
    await ends.keep(connection, kept, "expired", now)
    if alive := [row.id for row in rows if row.record.live(now)]:
        await connection.execute(
            update(sessions).where(s.id.in_(alive)).values(expires_bucket=dialect.hour(s.expires_at))
        )
    return [row.id for row in expired]


async def _orphans(
    connection: AsyncConnection, after: tuple[int, bytes] | None, limit: int
) -> list[tuple[int, bytes, bytes | None]]:
    """Sets of chunks that no session points at, each with its mark."""
    marks, firsts = chunks.alias(), chunks.alias()
    no_first = not_(
        exists()
        .where(firsts.c.version == k.version, firsts.c.id == k.id, firsts.c.seq == 0)
        .correlate(chunks)
    )
    joined = chunks.outerjoin(sessions, and_(s.id == k.id, s.version == k.version)).outerjoin(
        marks, and_(marks.c.version == k.version, marks.c.id == k.id, marks.c.seq == SUPERSEDED)
    )
    wanted = (
        select(k.version, k.id, marks.c.data)
        .select_from(joined)
        # A rotation that was interrupted before it had copied anything leaves a mark without chunks.
        .where(or_(k.seq == 0, and_(k.seq == SUPERSEDED, no_first)), s.id.is_(None))
        .order_by(k.version, k.id)
        .limit(limit)
    )
    if after is not None:
        wanted = wanted.where(or_(k.version > after[0], and_(k.version == after[0], k.id > after[1])))
    return [(version, digest, mark) for version, digest, mark in await connection.execute(wanted)]
