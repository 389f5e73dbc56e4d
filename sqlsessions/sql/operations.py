"""What the storage does to the database, by digest: one call, one statement or one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from ..errors import SessionCorrupt, SessionNotFound
from ..records import Clock, Lifetime, Options, Record, written
from . import settling, transactions
from .batches import Batches
from .database import Database
from .drivers.base import Delete, Driver, Row, Touch, Write
from .models import sessions
from .statements import RECORD, Given, live_at, row
from .transactions import Stored

PAGE = 500

# Places in a row of `Operations.select`.
_NAMES = [column.name for column in RECORD]
SIZE = 1 + _NAMES.index("size")
EXPIRES_AT = 1 + _NAMES.index("expires_at")
DATA = 1 + len(RECORD)

c = sessions.c


class Operations:
    """Operations on sessions.

    Args:
        database: Where they are.
        driver: Carries out what is small.
        clock: Gives the time.
        defaults: The storage's settings for new sessions.
    """

    def __init__(self, database: Database, driver: Driver[Any], clock: Clock, defaults: Lifetime) -> None:
        self._database = database
        self._clock = clock
        self._defaults = defaults
        self._versions = records.Versions.of(clock)
        self._batches = Batches(database, driver)

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
            SessionCorrupt: If its data has not the size that it should have.
        """
        row = await self._batches.read(digest, data=True)
        if row is None or (row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= self.now()):
            raise SessionNotFound("no live session has this id")
        if row[DATA] is not None and len(row[DATA]) != row[SIZE]:
            raise SessionCorrupt("a session's data has not the size that it should have; it cannot be read")
        return row

    async def record(self, digest: bytes) -> Record | None:
        """A live session without its data."""
        row = await self._batches.read(digest, data=False)
        if row is None or not (record := record_of(row)).live(self.now()):
            return None
        return record

    async def write_inline(self, digest: bytes, data: bytes, options: Options) -> Record:
        """Write a small session."""
        now = self.now()
        version = self._versions.next(now)
        fresh = written(None, options, now, version, len(data), self._defaults)
        write = Write(row(digest, fresh, data), Given.of(options), options.if_match, len(data))
        found = await self._batches.change(write)
        if found is not None:
            return Record(*found[1:])
        # Not written: it is chunked, it conflicts, or the database cannot do it in one statement.
        return await self.replace(digest, options, version=version, size=len(data), data=data)

    async def replace(
        self, digest: bytes, options: Options, *, version: int, size: int, data: bytes | None, staged: int = 0
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
            staged=staged,
            before=before,
        )

        async def settle(connection: AsyncConnection) -> Record | None:
            # A small write's version may have been raised above the last that it met.
            versions = [version, *([before[-1] + 1] if before and data is not None else [])]
            return await settling.written(connection, digest, max(versions), before)

        return await self._database.transaction(work, settle=settle)

    async def touch(self, digest: bytes, old: Record, new: Record) -> bool:
        """Write what a touch changed; False if the session changed since it was looked at."""
        touch = Touch((digest, old.version, old.expires_at, new.ttl, new.expires_at))
        return bool(await self._batches.change(touch))

    async def delete(self, digest: bytes) -> None:
        """End a session, if it lives."""
        if not await self._batches.change(Delete(digest, self.next_version(), self.now())):
            await self.end(c.id == digest)

    async def end(self, *conditions: ColumnElement[bool]) -> int:
        """End the live sessions that meet conditions, page by page; how many they were."""
        ended = 0
        while True:
            count = await self._end_page(conditions)
            ended += count
            if count < PAGE:
                return ended

    async def _end_page(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        now, version = self.now(), self.next_version()
        ending: list[bytes] = []

        async def work(connection: AsyncConnection) -> int:
            rows = await transactions.locked(connection, *conditions, live_at(now), limit=PAGE)
            ending[:] = [stored.id for stored in rows]
            await transactions.end(connection, rows, now, version)
            return len(rows)

        async def settle(connection: AsyncConnection) -> int | None:
            done = ending and await settling.ended(connection, ending[0], version)
            return len(ending) if done else None

        return await self._database.transaction(work, settle=settle)

    async def end_one(self, digest: bytes) -> bool:
        """End a session; whether it lived."""
        return await self.end(c.id == digest) > 0

    async def revoke(self, subject: str, keep: bytes | None) -> int:
        """End a subject's live sessions but one; how many they were."""
        return await self.end(self._database.backend.subject_is(c.subject, subject), c.id != (keep or b""))

    async def move(self, digest: bytes, new_digest: bytes, copied: Record | None) -> Stored | Record:
        """Give a session a new id; see `transactions.move`."""
        moved: Stored | Record | None = None
        version = self.next_version()

        async def work(connection: AsyncConnection) -> Stored | Record:
            nonlocal moved
            moved = await transactions.move(connection, digest, new_digest, self.now(), copied, version)
            return moved

        async def settle(connection: AsyncConnection) -> Record | None:
            done = isinstance(moved, Record) and await settling.ended(connection, digest, version)
            return moved if done and isinstance(moved, Record) else None

        return await self._database.transaction(work, settle=settle)

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
            wanted = wanted.where(self._database.backend.subject_is(c.subject, subject))
            wanted = wanted.order_by(c.created_at.desc(), c.id.desc())
            if after is not None:
                last, time = after[0], after[1].created_at
                wanted = wanted.where(or_(c.created_at < time, and_(c.created_at == time, c.id < last)))
        return await self._database.run(partial(_page, statement=wanted))


def record_of(row: Row) -> Record:
    """The record in a row."""
    return Record(*row[1:DATA])


async def _page(
    connection: AsyncConnection, statement: Select[*tuple[Any, ...]]
) -> list[tuple[bytes, Record]]:
    return [(found[0], Record(*found[1:])) for found in await connection.execute(statement)]
