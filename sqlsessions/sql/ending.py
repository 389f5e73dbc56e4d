"""The end of sessions: of one, of a subject's, or of all, also of those whose ids are being changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from ..info import EndReason
from ..records import Record
from .engine.database import Database
from .keeping import Keeping
from .models import MOVED, sessions
from .models import chunks as chunks_table
from .statements import chunks, in_doubt, transactions
from .statements.catching import CHASES, catch
from .statements.labels import has_label, pages_of
from .statements.listing import KEYS_PER_STATEMENT, PAGE, batches, fetch, page_of, within
from .statements.single import RECORD, live_at
from .statements.transactions import Stored

c = sessions.c


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which live sessions to end.

    Attributes:
        conditions: What holds of them.
        of_subject: Whether they are those of a subject.
        revoked: Whether they leave no time of their end, since no response tells their browsers.
        keep: The digest of an id whose session to leave alone, though its id was changed.
        label: The label that they must have yet.
        reason: Why they end.
    """

    conditions: tuple[ColumnElement[bool], ...]
    of_subject: bool = False
    revoked: bool = False
    keep: bytes | None = None
    label: str | None = None
    reason: EndReason = "revoked"


class Ending:
    """Ends sessions in the database.

    Args:
        database: Where they are.
        now: Gives the time.
        pin: Called with what may have been ended, for a replica.
        prefixes: What the digests of the namespaces begin with.
        keeping: Keeps records of what ended.

    Attributes:
        keeping: Keeps records of what ended.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], int],
        pin: Callable[[Iterable[bytes]], None],
        prefixes: Collection[bytes | None],
        keeping: Keeping,
    ) -> None:
        self._database = database
        self._now = now
        self._pin = pin
        self._within = within(*prefixes)
        self.keeping = keeping

    def one(self, digest: bytes, reason: EndReason = "revoked") -> Chosen:
        """The session with a digest."""
        return Chosen((c.id == digest,), reason=reason)

    def of_subject(self, subject: str, keep: bytes | None) -> Chosen:
        """The sessions of a subject, but for the one of an id."""
        own = self._database.dialect.subject_is(c.subject, subject)
        return Chosen((own, self._within, c.id != (keep or b"")), of_subject=True, revoked=True, keep=keep)

    async def end(self, ended: list[bytes], chosen: Chosen) -> None:
        """End sessions, page by page, and add them to a list."""
        await self.keeping.announce()
        while await self._end_page(ended, chosen):
            pass

    async def end_all(self, before: int | None, report: Callable[[list[bytes]], Awaitable[None]]) -> int:
        """End the sessions that are there, also those whose ids are changed meanwhile.

        They are ended in the order of their ids, which a session passes by if it gets a lower one just then. By the
        second time, the database knows of every such change that is left, since that was no minute ago.

        Args:
            before: Only those that began before a time.
            report: Called with those that ended, after each commit.

        Returns:
            How many ended.
        """
        await self.keeping.announce()
        started = self._now()
        count, newest = await self._end_in_order(before, report)
        if before is None:  # what begins from now on may stay, or this would have no end
            before = max(started, newest) + 1
        count += (await self._end_in_order(before, report))[0]
        left = True
        while left:
            moved, left = await self._end_moved(before)
            await report(moved)
            count += len(moved)
        return count

    async def end_labelled(self, label: str, report: Callable[[list[bytes]], Awaitable[None]]) -> int:
        """End the sessions that have a label, also those whose ids are changed meanwhile; how many.

        The index has the old id of a session whose id is just being changed, which then cannot be locked. So it is
        looked at again until it has none.
        """
        records.checked_label(label)
        await self.keeping.announce()
        started, last, newest, count = self._now(), None, 0, 0
        while True:
            found = False
            async for page in pages_of(label, self._within, self._database.run, self._now):
                newest = max([newest, *(record.created_at for _, record in page)])
                # What begins from the second time on may stay, or this would have no end.
                digests = [digest for digest, record in page if last is None or record.created_at <= last]
                found |= bool(digests)
                count += await self._end_these(digests, report, label)
            if not found:
                return count
            last = max(started, newest) if last is None else last

    async def _end_in_order(
        self, before: int | None, report: Callable[[list[bytes]], Awaitable[None]]
    ) -> tuple[int, int]:
        """End sessions in the order of their ids; how many, and when the newest of them began."""
        rows = self._within if before is None else and_(self._within, c.created_at < before)
        count, newest = 0, 0
        last: tuple[bytes, Record] | None = None
        while page := await self._database.run(
            partial(fetch, statement=page_of(rows, None, last, self._now(), PAGE))
        ):
            last, newest = page[-1], max(newest, *(record.created_at for _, record in page))
            count += await self._end_these([digest for digest, _ in page], report)
        return count, newest

    async def _end_these(
        self,
        digests: list[bytes],
        report: Callable[[list[bytes]], Awaitable[None]],
        label: str | None = None,
    ) -> int:
        count = 0
        for some in batches(digests):
            ended: list[bytes] = []
            await self._end_page(ended, Chosen((c.id.in_(some),), revoked=True, label=label))
            await report(ended)
            count += len(ended)
        return count

    async def _end_moved(self, before: int) -> tuple[list[bytes], bool]:
        """End the sessions whose ids were changed lately; and whether there may be more.

        One that gets yet another id before it is locked is looked for at once, in the same transaction: whoever
        changes it needs longer than that to lock it again.
        """
        tombstone, left = chunks.new_tombstone(), True
        ending: list[bytes] = []

        async def work(connection: AsyncConnection) -> list[bytes]:
            nonlocal left
            earlier, ending[:] = ending[:], []
            for _ in range(CHASES):
                found = await fetch(connection, self._moved(before))
                if not (left := bool(found)):
                    break
                rows = await transactions.locked(connection, c.id.in_([digest for digest, _ in found]))
                await self.end_locked(connection, rows, tombstone, "revoked")
                ending.extend(stored.id for stored in rows)
            if earlier and await in_doubt.ended(connection, earlier[0], tombstone):
                ending.extend(earlier)  # which came to its end while it was looked for
            return ending

        async def resolve(connection: AsyncConnection) -> list[bytes] | None:
            done = ending and await in_doubt.ended(connection, ending[0], tombstone)
            return ending if done else None

        try:
            return await self._database.transaction(work, resolve=resolve), left
        finally:
            self._pin(ending)

    def _moved(self, before: int) -> Select[*tuple[Any, ...]]:
        """The sessions whose ids were changed lately, in one snapshot of the changes and of the sessions."""
        k = chunks_table.c
        return (
            select(c.id, *RECORD)
            .join(chunks_table, c.id == func.substr(k.data, 9))
            .where(k.version == 0, k.seq == MOVED, self._within, c.created_at < before, live_at(self._now()))
            .limit(KEYS_PER_STATEMENT)
        )

    async def _end_page(self, ended: list[bytes], chosen: Chosen) -> bool:
        """End up to `PAGE` sessions; whether there may be more."""
        full = False
        now, tombstone = self._now(), chunks.new_tombstone()
        ending: list[bytes] = []

        async def work(connection: AsyncConnection) -> list[bytes]:
            nonlocal full
            rows, more = await self._caught(connection, chosen, now)
            if ending and await in_doubt.ended(connection, ending[0], tombstone):
                return ending  # the attempt before had not come to its end when it was looked for, and says `full`
            full = more
            ending[:] = await self._end_rows(connection, chosen, rows, now, tombstone)
            return ending

        async def resolve(connection: AsyncConnection) -> list[bytes] | None:
            done = ending and await in_doubt.ended(connection, ending[0], tombstone)
            return ending if done else None

        try:
            ended += await self._database.transaction(work, resolve=resolve)
        finally:
            self._pin(ending)
        return full

    async def end_within(
        self, connection: AsyncConnection, ended: list[bytes], chosen: Chosen, tombstone: int
    ) -> None:
        """End sessions in a transaction that goes on, and add them to a list.

        Args:
            connection: In the transaction.
            ended: The list.
            chosen: Which sessions.
            tombstone: The ``seq`` of their tombstones.
        """
        now, full = self._now(), True
        if chosen.of_subject and self._database.dialect.moved_rows_escape:
            rows, _ = await self._caught(connection, chosen, now, latest=True)
            ended += await self._end_rows(connection, chosen, rows, now, tombstone, latest=True)
        while full:
            rows = await self._locked(connection, chosen, now)
            full = len(rows) == PAGE
            ended += await self._end_rows(connection, chosen, rows, now, tombstone, latest=True)

    async def _caught(
        self, connection: AsyncConnection, chosen: Chosen, now: int, *, latest: bool = False
    ) -> tuple[list[Stored], bool]:
        """Lock up to `PAGE` sessions; they, and whether there may be more."""
        if chosen.of_subject and self._database.dialect.moved_rows_escape:
            which = (*chosen.conditions, live_at(now))
            return await catch(connection, self._database.dialect, *which, limit=PAGE, latest=latest)
        rows = await self._locked(connection, chosen, now)
        return rows, len(rows) == PAGE

    async def _locked(self, connection: AsyncConnection, chosen: Chosen, now: int) -> list[Stored]:
        hint = self._database.dialect.subject_hint if chosen.of_subject else None
        return await transactions.locked(
            connection, *chosen.conditions, live_at(now), limit=PAGE, hint=hint, in_order=hint is None
        )

    async def _end_rows(
        self,
        connection: AsyncConnection,
        chosen: Chosen,
        rows: list[Stored],
        now: int,
        tombstone: int,
        *,
        latest: bool = False,
    ) -> list[bytes]:
        """End locked sessions, but for the one to keep; which they were."""
        if (
            chosen.keep is not None
        ):  # after the locks: a session that is moved from now on is not among the rows
            since = self._now() - records.FORWARDING
            moves = await chunks.moves(connection, chosen.keep, since, latest=latest)
            kept = chunks.newest(chosen.keep, moves)
            rows = [stored for stored in rows if stored.id != kept]
        if chosen.label is not None:
            rows = [stored for stored in rows if has_label(stored.record, chosen.label)]
        await self.end_locked(connection, rows, tombstone, chosen.reason, None if chosen.revoked else now)
        return [stored.id for stored in rows]

    async def end_locked(
        self,
        connection: AsyncConnection,
        rows: list[Stored],
        tombstone: int,
        reason: EndReason,
        ended_at: int | None = None,
    ) -> None:
        """End locked sessions; see `transactions.end`."""
        await transactions.end(connection, self._database.dialect, rows, tombstone, ended_at)
        await self.keeping.keep(connection, rows, reason, self._now() if ended_at is None else ended_at)
