"""Export: writes all live sessions of a database to an archive, in the order of their keys."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import SessionChanged, SessionCorrupt, SessionNotFound
from ..records import Record
from ..sql.internals import Internals, internals_of
from ..sql.models import sessions
from ..sql.statements.single import DATA, INLINE, RECORD, live_at, record_of
from ..sql.storage import SqlSessionStorage
from .files import STANDARD, open_writer
from .format import Entry

PAGE = 250  # sessions
PAGE_BYTES = 8 * 1024 * 1024
"""The most data in a page, unless its first session is larger."""

c = sessions.c


@dataclass(frozen=True, slots=True)
class Exported:
    """The contents of an archive.

    Attributes:
        sessions: How many sessions.
        bytes: Of their data together.
        digest: SHA-256, in hex, over all of it; empty while the export is under way. Databases with the
            same sessions give the same.
    """

    sessions: int = 0
    bytes: int = 0
    digest: str = ""


async def export_sessions(
    storage: SqlSessionStorage,
    path: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write all live sessions to a file.

    It is written as ``path`` with ``.partial`` after it, which only its owner can read, and renamed once it is
    whole and on the disk. A session that is written meanwhile is exported in one of its versions.

    Args:
        storage: The storage whose sessions are exported.
        path: The file; ``-`` is standard output.
        resume: Go on with a partial file that an export left behind.
        force: Replace the file, and a partial one.
        progress: Called after each page with what is written so far.

    Raises:
        InvalidArgument: If the file exists and ``force`` is not given, or a partial one and neither
            ``resume`` nor ``force``.
        ArchiveDamaged: If the partial file to be resumed is no archive.
        OSError: If the file cannot be written; a partial one then stays.
        SessionCorrupt: If a session of the database cannot be read.
    """
    internals, path = internals_of(storage), Path(path)
    with ExitStack() as stack:
        writer = await asyncio.to_thread(open_writer, stack, path, resume=resume, force=force)
        async for page in _pages(internals, writer.position.last):
            for digest, record, data in page:
                if data is not None:
                    writer.add(digest, record, data)
                    continue
                with tempfile.TemporaryFile(dir=None if path == STANDARD else path.parent) as spooled:
                    if (read := await _spool(internals, digest, spooled)) is not None:
                        await asyncio.to_thread(writer.add, digest, read, spooled)
            if progress:
                progress(Exported(writer.position.sessions, writer.position.size))
        digest_of_all = writer.end()
    return Exported(writer.position.sessions, writer.position.size, digest_of_all)


async def _pages(internals: Internals, after: bytes) -> AsyncIterator[list[Entry]]:
    """The live sessions with digests above one; the data of large ones is left out."""
    database, now = internals.database, internals.repository.now
    while (end := await database.run(partial(_page_end, after=after, now=now()))) is not None:
        if page := await database.run(partial(_read_page, after=after, end=end, now=now())):
            yield page
        after = end


async def _page_end(connection: AsyncConnection, after: bytes, now: int) -> bytes | None:
    """The last digest of the page after a digest; None if there are no more sessions."""
    inline = case((INLINE, c.size), else_=0)
    wanted = select(c.id, inline).where(c.id > after, live_at(now)).order_by(c.id).limit(PAGE)
    end, total = None, 0
    for digest, size in await connection.execute(wanted):
        total += size
        if end is not None and total > PAGE_BYTES:
            break
        end = digest
    return end


async def _read_page(connection: AsyncConnection, after: bytes, end: bytes, now: int) -> list[Entry]:
    wanted = select(c.id, *RECORD, c.data).where(c.id > after, c.id <= end, live_at(now)).order_by(c.id)
    page = []
    for row in await connection.execute(wanted):
        record, data = record_of(row), row[DATA]
        if data is not None and len(data) != record.size:
            raise SessionCorrupt(
                "a session's stored data does not match its recorded size: end it by `sqlsessions revoke "
                f"--key {row[0].hex()}`, and go on with --resume"
            )
        page.append(Entry(row[0], record, data))
    return page


async def _spool(internals: Internals, digest: bytes, file: BinaryIO) -> Record | None:
    """Write one version of a large session's data to a file; None if the session has ended."""
    while True:
        file.seek(0)
        file.truncate()
        try:
            row = await internals.repository.select(digest)
            record, data = record_of(row), row[DATA]
            if data is not None:  # it was replaced by a small version
                file.write(data)
            else:
                async for piece in internals.staging.stream(digest, record.version, record.size):
                    await asyncio.to_thread(file.write, piece)
        except SessionNotFound:
            return None
        except SessionChanged:
            continue
        file.seek(0)
        return record
