"""Import: writes the sessions of an archive to a database, exactly as they were in another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Insert, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import ArchiveDamaged, SessionChanged
from ..records import Record
from ..sql.batching.driver import Chunk
from ..sql.dialects import Dialect
from ..sql.engine.database import IDEMPOTENT
from ..sql.internals import Internals, internals_of
from ..sql.models import sessions
from ..sql.statements import chunks, labels, transactions
from ..sql.statements.single import parameter, parameters, row
from ..sql.statements.transactions import Stored
from ..sql.storage import SqlSessionStorage
from .files import open_archive
from .format import Entry, Reader

PAGE = 250  # sessions
PAGE_BYTES = 4 * 1024 * 1024

c = sessions.c


@dataclass(frozen=True, slots=True)
class Imported:
    """The outcome of an import.

    Attributes:
        sessions: Written to the database.
        bytes: Of their data together.
        present: Were in the database already, as after an earlier import.
        newer: Were in the database in a newer version, which stays.
        expired: Had expired since the export.
        total: How many sessions the archive holds.
        digest: The digest of the archive, as in `Exported`.
    """

    sessions: int = 0
    bytes: int = 0
    present: int = 0
    newer: int = 0
    expired: int = 0
    total: int = 0
    digest: str = ""

    @property
    def done(self) -> int:
        """How many sessions of the archive were dealt with."""
        return self.sessions + self.present + self.newer + self.expired

    def plus(self, outcome: ImportOutcome, record: Record) -> Imported:
        """The counts with one more session."""
        size = record.size if outcome is ImportOutcome.WRITTEN else 0
        return replace(self, bytes=self.bytes + size, **{outcome: getattr(self, outcome) + 1})


class ImportOutcome(StrEnum):
    """The outcome for one session: the count of `Imported` that it adds to."""

    WRITTEN = "sessions"
    PRESENT = "present"
    NEWER = "newer"
    EXPIRED = "expired"


async def import_sessions(
    storage: SqlSessionStorage,
    path: str | Path,
    *,
    digest: str | None = None,
    progress: Callable[[Imported], None] | None = None,
) -> Imported:
    """Write the sessions of an archive to a database.

    The archive is read to its end before anything is written. Of a session that the database has already,
    the newer version stays, or of the same version the later expiry; of two sessions that began apart under one
    id, the one that was written later by the clocks of their services; one that ended since the export comes
    back. An interrupted import is finished by importing again.

    Args:
        storage: The storage that gets the sessions.
        path: The file; ``-`` is standard input, which is copied to a temporary file first.
        digest: The archive's digest, as its export returned it; None accepts any.
        progress: Called after each page with what is done so far.

    Raises:
        ArchiveDamaged: If the file is no archive, cut short, damaged, or has another digest.
        OSError: If the file cannot be read.
    """
    internals = internals_of(storage)
    with ExitStack() as stack:
        file = await asyncio.to_thread(open_archive, stack, Path(path))
        done = await asyncio.to_thread(_verified, file, digest)
        file.seek(0)
        reader, growth = Reader(file), Growth(internals)
        while page := await asyncio.to_thread(_page, reader, internals.limits.at_once):
            small = [entry for entry in page if entry.data is not None]
            outcomes = await write_small(internals, small) if small else []
            await growth.add(len(small))
            for entry, outcome in zip(small, outcomes, strict=True):
                done = done.plus(outcome, entry.record)
            if (last := page[-1]).data is None:
                outcome = await write_large(internals, last, _pieces(reader))
                done = done.plus(outcome, last.record)
                await asyncio.to_thread(reader.skip)
            if progress:
                progress(done)
    return done


def _verified(file: BinaryIO, digest: str | None) -> Imported:
    """Read an archive to its end; the totals of an import that is to begin."""
    reader = Reader(file)
    while reader.next() is not None:
        reader.skip()
    assert reader.digest is not None
    if digest is not None and digest.strip().lower() != reader.digest:
        raise ArchiveDamaged(
            "the archive has another digest than was given: it is not the one that was exported"
        )
    return Imported(total=reader.position.sessions, digest=reader.digest)


def _page(reader: Reader, at_once: int) -> list[Entry]:
    """The next sessions; the last may be a large one, whose data is still to be read."""
    page: list[Entry] = []
    size = 0
    while len(page) < PAGE and size < PAGE_BYTES and (found := reader.next()) is not None:
        digest, record = found
        if record.size > at_once:
            page.append(Entry(digest, record, None))
            break
        page.append(Entry(digest, record, reader.read(record.size) if record.size else b""))
        size += record.size
    return page


async def _pieces(reader: Reader) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(reader.read):
        yield piece


class Growth:
    """Has statements planned anew as an import makes the table larger."""

    def __init__(self, internals: Internals) -> None:
        self._database = internals.database
        self._written, self._next = 0, 1000  # sessions

    async def add(self, count: int) -> None:
        """Note that sessions were written."""
        self._written += count
        if self._written >= self._next:
            self._next = self._written * 10
            await self._database.run(partial(self._database.dialect.replan, table=sessions.name))


async def write_small(internals: Internals, small: list[Entry]) -> list[ImportOutcome]:
    """Write small sessions in one transaction."""
    repository = internals.repository
    work = partial(
        _merge,
        dialect=internals.database.dialect,
        small=small,
        now=repository.now(),
        tombstone=chunks.new_tombstone(),
    )
    return await internals.database.transaction(work, resolve=IDEMPOTENT)


async def write_large(internals: Internals, entry: Entry, pieces: AsyncIterator[bytes]) -> ImportOutcome:
    """Write a session in chunks; the pieces are not read if it need not be written."""
    digest, record, _ = entry
    database, repository, size = internals.database, internals.repository, internals.limits.chunk
    look = partial(_outcome_now, entry=entry, now=repository.now())
    outcome = await database.transaction(look, resolve=IDEMPOTENT)
    if outcome is not ImportOutcome.WRITTEN:
        return outcome
    reserve = partial(chunks.reserve, dialect=database.dialect, version=record.version, digest=digest)
    await database.transaction(reserve, resolve=IDEMPOTENT)
    buffer, seq = bytearray(), 0
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            await internals.staging.stage(Chunk(record.version, digest, seq, bytes(buffer[:size])))
            del buffer[:size]
            seq += 1
    if buffer:
        await internals.staging.stage(Chunk(record.version, digest, seq, bytes(buffer)))
        seq += 1
    work = partial(
        _point_at_chunks,
        dialect=database.dialect,
        entry=entry,
        staged=seq,
        now=repository.now(),
        tombstone=chunks.new_tombstone(),
    )
    return await database.transaction(work, resolve=IDEMPOTENT)


def _outcome_over(record: Record, old: Stored | None, now: int) -> ImportOutcome:
    """The outcome for a session, given the one that the database has."""
    if not record.live(now):
        return ImportOutcome.EXPIRED
    if old is None:
        return ImportOutcome.WRITTEN
    if old.record.version == record.version:
        return ImportOutcome.PRESENT
    if old.record.live(now) and _is_newer(old.record, record):
        return ImportOutcome.NEWER
    return ImportOutcome.WRITTEN


def _is_newer(record: Record, other: Record) -> bool:
    if record.created_at == other.created_at:  # one session, which went on in either database
        return record.version > other.version
    return record.updated_at > other.updated_at


async def _outcome_now(connection: AsyncConnection, entry: Entry, now: int) -> ImportOutcome:
    old = next(iter(await transactions.locked(connection, c.id == entry.digest)), None)
    return await _outcome_extending(connection, entry.record, old, now)


async def _outcome_extending(
    connection: AsyncConnection, record: Record, old: Stored | None, now: int
) -> ImportOutcome:
    """The outcome for a session; the database's own of the same version gets the later expiry."""
    outcome = _outcome_over(record, old, now)
    if outcome is ImportOutcome.PRESENT and old and _later(record.expires_at, old.record.expires_at):
        extend = update(sessions).where(c.id == old.id)
        values = {"ttl": record.ttl, "expires_at": record.expires_at, "touched_at": record.touched_at}
        await connection.execute(extend.values(values))
    return outcome


def _later(time: int | None, other: int | None) -> bool:
    return other is not None and (time is None or time > other)


async def _merge(
    connection: AsyncConnection, dialect: Dialect, small: list[Entry], now: int, tombstone: int
) -> list[ImportOutcome]:
    found = await transactions.locked(connection, c.id.in_([entry.digest for entry in small]))
    stored = {each.id: each for each in found}
    outcomes, new, labelled = [], [], []
    for entry in small:
        old = stored.get(entry.digest)
        outcome = await _outcome_extending(connection, entry.record, old, now)
        outcomes.append(outcome)
        if outcome is ImportOutcome.WRITTEN and old is not None:
            await _replace(connection, dialect, old, entry, tombstone)
        elif outcome is ImportOutcome.WRITTEN:
            new.append(parameters(row(*entry)))
            labelled += [entry] if entry.record.labels else []
    if new:
        await connection.execute(_insert(), new)
    for digest, record, _ in labelled:
        await labels.index(connection, digest, record, None)
    return outcomes


async def _point_at_chunks(
    connection: AsyncConnection, dialect: Dialect, entry: Entry, staged: int, now: int, tombstone: int
) -> ImportOutcome:
    """Write the row of a session whose chunks are staged."""
    digest, record, _ = entry
    old = next(iter(await transactions.locked(connection, c.id == digest)), None)
    if (outcome := _outcome_over(record, old, now)) is not ImportOutcome.WRITTEN:
        return outcome
    if await chunks.count(connection, record.version, digest) != staged:
        raise SessionChanged("the import took so long that its staged data was purged: import again")
    await chunks.release(connection, record.version, digest)
    if old is not None:
        await _replace(connection, dialect, old, entry, tombstone)
    else:
        await connection.execute(_insert(), parameters(row(*entry)))
        await labels.index(connection, digest, record, None)
    return outcome


async def _replace(
    connection: AsyncConnection, dialect: Dialect, old: Stored, entry: Entry, tombstone: int
) -> None:
    if old.chunked:
        await chunks.mark(connection, dialect, old.record.version, old.id)
    await chunks.leave_tombstones(connection, dialect, tombstone, [(old.id, old.record.version)])
    values = {each.name: parameter(each.name) for each in c}
    write = update(sessions).where(c.id == parameter("id")).values(values)
    await connection.execute(write, parameters(row(*entry)))
    await labels.index(connection, entry.digest, entry.record, old.record)


def _insert() -> Insert:
    return insert(sessions).values({each.name: parameter(each.name) for each in c})
