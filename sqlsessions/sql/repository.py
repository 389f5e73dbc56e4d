"""The operations on sessions in the database, by digest: each is one statement or one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from .._versions import Versions
from ..errors import SessionCorrupt, SessionNotFound
from ..events import Events
from ..records import Clock, Lifetime, Options, Record, written
from .batching.driver import Driver
from .batching.executor import BatchExecutor
from .batching.operations import Delete, Operation, Row, Touch, Write
from .engine.database import Database, Work
from .models import sessions
from .replica import Replica
from .statements import chunks, in_doubt, transactions
from .statements.single import RECORD, ExplicitOptions, live_at, row
from .statements.transactions import Stored

T = TypeVar("T")

PAGE = 500
MAX_MOVES = 16
"""How many changes of an id are followed."""

# Places in a row of `SessionRepository.select`.
_NAMES = [column.name for column in RECORD]
SIZE = 1 + _NAMES.index("size")
EXPIRES_AT = 1 + _NAMES.index("expires_at")
DATA = 1 + len(RECORD)

c = sessions.c


class SessionRepository:
    """Sessions in the database.

    Args:
        database: Where they are.
        driver: Carries out operations on small sessions.
        clock: Gives the time.
        defaults: The storage's settings for new sessions.
        events: Logs ids that no live session has.
        replica: Where sessions are read, if there is one.
    """

    def __init__(
        self,
        database: Database,
        driver: Driver[Any],
        clock: Clock,
        defaults: Lifetime,
        events: Events,
        replica: Replica | None = None,
    ) -> None:
        self._replica = replica
        self._database = database
        self._clock = clock
        self._defaults = defaults
        self._events = events
        self._versions = Versions.of(clock)
        self._executor = BatchExecutor(database, driver)

    @property
    def queued(self) -> tuple[int, int]:
        """How many reads and how many changes wait for their batch."""
        return self._executor.queued

    def now(self) -> int:
        """The time."""
        return records.microseconds(self._clock)

    def next_version(self) -> int:
        """A version for a write that begins now."""
        return self._versions.next(self.now())

    async def select(self, digest: bytes) -> Row:
        """The row of a live session: its id, the columns of a `Record`, its data or None if chunked.

        Raises:
            SessionNotFound: If there is none.
            SessionCorrupt: If its data does not match its recorded size.
        """
        row = None
        if self._replica is not None:
            row = await self._replica.read(digest)
            if row is not None and row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= self.now():
                row = None  # it may have been extended since
        if row is None:
            row = await self._executor.read(digest, data=True)
        if row is None or (row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= self.now()):
            self._events.unknown(digest)
            raise SessionNotFound("no live session has this id")
        if row[DATA] is not None and len(row[DATA]) != row[SIZE]:
            raise SessionCorrupt(
                "a session's stored data does not match its recorded size; it cannot be read"
            )
        return row

    async def record(self, digest: bytes) -> Record | None:
        """A live session without its data."""
        row = await self._executor.read(digest, data=False)
        if row is None or not (record := record_of(row)).live(self.now()):
            self._events.unknown(digest)
            return None
        return record

    async def write_inline(self, digest: bytes, data: bytes, options: Options) -> Record:
        """Write a small session."""
        now = self.now()
        version = self._versions.next(now)
        fresh = written(None, options, now, version, len(data), self._defaults)
        write = Write(row(digest, fresh, data), ExplicitOptions.of(options), options.if_match, len(data))
        found = await self._change(write)
        if found is not None:
            return Record(*found[1:])
        # Not written: it is chunked, it conflicts, or the database cannot do it in one statement.
        return await self.replace(
            digest, options, version=version, size=len(data), data=data, lost=write.in_doubt
        )

    async def replace(
        self,
        digest: bytes,
        options: Options,
        *,
        version: int,
        size: int,
        data: bytes | None,
        staged: int = 0,
        lost: bool = False,
    ) -> Record:
        """Write a session whatever it was before; see `transactions.replace`."""
        before: list[int] = []
        work = partial(
            transactions.replace,
            digest=digest,
            options=options,
            defaults=self._defaults,
            now=self.now(),
            version=version,
            size=size,
            data=data,
            tombstone=self.next_version(),
            staged=staged,
            before=before,
        )
        if lost:
            work = partial(_unless_written, work=work, digest=digest, version=version)

        async def resolve(connection: AsyncConnection) -> Record | None:
            # A small write's version may have been raised above the last that it met.
            versions = [version, *([before[-1] + 1] if before and data is not None else [])]
            return await in_doubt.written(connection, digest, max(versions), before)

        return await self._transaction(work, resolve, [digest])

    async def touch(self, digest: bytes, old: Record, new: Record) -> bool:
        """Write what a touch changed; False if the session changed since it was read."""
        touch = Touch((digest, old.version, old.expires_at, new.ttl, new.expires_at))
        return bool(await self._change(touch))

    async def delete(self, digest: bytes) -> bool:
        """End a session; whether it lived."""
        delete = Delete(digest, self.next_version(), self.now())
        return await self._change(delete) or await self.end_one(digest)

    async def end(self, ended: list[bytes], *conditions: ColumnElement[bool]) -> None:
        """End the live sessions that meet conditions, page by page, and add them to a list."""
        while True:
            page = await self._end_page(conditions)
            ended += page
            if len(page) < PAGE:
                return

    async def _end_page(self, conditions: Sequence[ColumnElement[bool]]) -> list[bytes]:
        now, version = self.now(), self.next_version()
        ending: list[bytes] = []

        async def work(connection: AsyncConnection) -> list[bytes]:
            rows = await transactions.locked(connection, *conditions, live_at(now), limit=PAGE)
            if ending and await in_doubt.ended(connection, ending[0], version):
                return ending  # the attempt before had not come to its end when it was looked for
            ending[:] = [stored.id for stored in rows]
            await transactions.end(connection, rows, now, version)
            return ending

        async def resolve(connection: AsyncConnection) -> list[bytes] | None:
            done = ending and await in_doubt.ended(connection, ending[0], version)
            return ending if done else None

        return await self._transaction(work, resolve, ending)

    async def end_one(self, digest: bytes) -> bool:
        """End a session; whether it lived."""
        ended: list[bytes] = []
        await self.end(ended, c.id == digest)
        return bool(ended)

    async def revoke(self, ended: list[bytes], subject: str, keep: bytes | None) -> None:
        """End a subject's live sessions but one, and add them to a list."""
        own = self._database.dialect.subject_is(c.subject, subject)
        await self.end(ended, own, c.id != (keep or b""))

    async def move(self, digest: bytes, new_digest: bytes, copied: Record | None) -> Stored | Record:
        """Give a session a new id; see `transactions.move`."""
        moved: Stored | Record | None = None
        version = self.next_version()

        async def work(connection: AsyncConnection) -> Stored | Record:
            nonlocal moved
            moved = await transactions.move(connection, digest, new_digest, self.now(), copied, version)
            return moved

        async def resolve(connection: AsyncConnection) -> Record | None:
            done = isinstance(moved, Record) and await in_doubt.ended(connection, digest, version)
            return moved if done and isinstance(moved, Record) else None

        return await self._transaction(work, resolve, [digest, new_digest])

    async def forwarding(self, digest: bytes) -> tuple[bytes, Record | None] | None:
        """Where a session went whose id was changed.

        Args:
            digest: Of the old id.

        Returns:
            The digest of the newest id, and the session if it lives; None if the id was not changed.
        """
        first, since = digest, self.now() - records.FORWARDING
        for _ in range(MAX_MOVES):
            found = await self._database.run(partial(chunks.find_forwarding, digest=digest))
            if found is None or found[0] < since:
                break
            digest = found[1]
        if digest == first:
            return None
        row = await self._executor.read(digest, data=False)
        record = None if row is None else record_of(row)
        return digest, record if record is not None and record.live(self.now()) else None

    async def records(self, digests: Collection[bytes]) -> dict[bytes, Record]:
        """The live sessions among some, without their data."""
        wanted = select(c.id, *RECORD).where(c.id.in_(digests), live_at(self.now()))
        return dict(await self._database.run(partial(_page, statement=wanted)))

    async def page(
        self, subject: str | None, after: tuple[bytes, Record] | None
    ) -> list[tuple[bytes, Record]]:
        """Some live sessions: by id, or one subject's, the newest first.

        Args:
            subject: Whose; None is everybody's.
            after: The last of the page before.
        """
        wanted = select(c.id, *RECORD).where(live_at(self.now())).limit(PAGE)
        if subject is None:
            wanted = wanted.order_by(c.id)
            if after is not None:
                wanted = wanted.where(c.id > after[0])
        else:
            wanted = wanted.where(self._database.dialect.subject_is(c.subject, subject))
            wanted = wanted.order_by(c.created_at.desc(), c.id.desc())
            if after is not None:
                last, time = after[0], after[1].created_at
                wanted = wanted.where(or_(c.created_at < time, and_(c.created_at == time, c.id < last)))
        return await self._database.run(partial(_page, statement=wanted))

    async def _change(self, change: Operation) -> Any:
        try:
            return await self._executor.change(change)
        finally:
            if self._replica is not None:
                self._replica.pin([change.digest])

    async def _transaction(self, work: Work[T], resolve: Work[T | None], digests: list[bytes]) -> T:
        try:
            return await self._database.transaction(work, resolve=resolve)
        finally:
            if self._replica is not None:
                self._replica.pin(digests)


async def _unless_written(
    connection: AsyncConnection, work: Work[Record], digest: bytes, version: int
) -> Record:
    """Write, unless the write was lost and took effect meanwhile."""
    await transactions.locked(connection, c.id == digest)
    return await in_doubt.written(connection, digest, version) or await work(connection)


def record_of(row: Row) -> Record:
    """The record in a row."""
    return Record(*row[1:DATA])


async def _page(
    connection: AsyncConnection, statement: Select[*tuple[Any, ...]]
) -> list[tuple[bytes, Record]]:
    return [(found[0], Record(*found[1:])) for found in await connection.execute(statement)]
