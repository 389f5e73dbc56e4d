"""Export and import of all sessions."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ..errors import ArchiveDamaged, SessionChanged, SessionNotFound
from ..sql.storage import SqlSessionStorage
from .exporting import Exporter
from .files import STANDARD, opened, source
from .format import Reader
from .importing import Importer, ImportOutcome

__all__ = ["Exported", "Imported", "export_sessions", "import_sessions"]

T = TypeVar("T")

PAGE_BYTES = 4 * 1024 * 1024
PAGE_SESSIONS = 250


@dataclass(frozen=True, slots=True)
class Exported:
    """What an archive holds.

    Attributes:
        sessions: How many sessions.
        bytes: Of their data together.
        digest: SHA-256, in hex, over all of it; empty while the export is under way. Databases with the
            same sessions give the same.
    """

    sessions: int = 0
    bytes: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the sessions of an archive.

    Attributes:
        sessions: Written to the database.
        bytes: Of their data together.
        present: Were there already, as of an earlier import.
        newer: Were there in a newer version, which stays.
        expired: Had expired since.
        total: How many the archive holds.
        digest: As of `Exported`.
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


async def export_sessions(
    storage: SqlSessionStorage,
    path: str | Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Callable[[Exported], None] | None = None,
) -> Exported:
    """Write all live sessions to a file.

    It is written as ``path`` with ``.partial`` after it, which only its owner can read, and gets its name once
    it is whole and on the disk. What began before the export or is written meanwhile is there in one version.

    Args:
        storage: Where the sessions are.
        path: The file; ``-`` is standard output.
        resume: Go on with a partial file that an export left behind.
        force: Replace the file, and a partial one.
        progress: Called after each page with what is written so far.

    Raises:
        InvalidArgument: If there is such a file and ``force`` is not given, or a partial one and neither
            ``resume`` nor ``force``.
        ArchiveDamaged: If the partial file to be resumed is no archive.
        OSError: If the file cannot be written; a partial one then stays.
        SessionCorrupt: If a session of the database cannot be read.
    """
    exporter = Exporter(storage)
    with ExitStack() as stack:
        writer = await asyncio.to_thread(opened, stack, Path(path), resume=resume, force=force)
        async for page in exporter.pages(writer.position.last):
            for digest, record, data in page:
                if data is not None:
                    writer.add(digest, record, data)
                    continue
                with tempfile.TemporaryFile(
                    dir=None if Path(path) == STANDARD else Path(path).parent
                ) as spooled:
                    if (whole := await _spooled(exporter, digest, spooled)) is not None:
                        await asyncio.to_thread(writer.add, digest, whole, spooled)
            if progress:
                progress(Exported(writer.position.sessions, writer.position.size))
        digest_of_all = writer.end()
    return Exported(writer.position.sessions, writer.position.size, digest_of_all)


async def import_sessions(
    storage: SqlSessionStorage,
    path: str | Path,
    *,
    digest: str | None = None,
    progress: Callable[[Imported], None] | None = None,
) -> Imported:
    """Write the sessions of an archive to a database.

    The archive is read to its end before anything is written. A session that is there already stays, in the
    newer version, or in the same one with the later expiry; one that ended since the export is brought back.
    An import that was broken off is finished by doing it IDEMPOTENT.

    Args:
        storage: Where to.
        path: The file; ``-`` is standard input, which is copied to a temporary file first.
        digest: The archive's digest, as its export gave it; None takes any.
        progress: Called after each page with what is done so far.

    Raises:
        ArchiveDamaged: If the archive is none, cut short, damaged, or has another digest.
        OSError: If the file cannot be read.
    """
    with ExitStack() as stack:
        file = await asyncio.to_thread(source, stack, Path(path))
        known = await asyncio.to_thread(_verified, file, digest)
        file.seek(0)
        reader, done = Reader(file), Imported(total=known.sessions, digest=known.digest)
        importer = Importer(storage)
        while page := await asyncio.to_thread(_page, reader, storage._limits.at_once):  # noqa: SLF001
            for outcome, sessions in await importer.write(page):
                done = _counted(done, outcome, sessions)
            if page[-1][2] is None:  # large, and not read yet
                last, record, _ = page[-1]
                outcome = await importer.write_large(last, record, _pieces(reader))
                done = _counted(done, outcome, [record.size])
                await asyncio.to_thread(reader.skip)
            if progress:
                progress(done)
    return done


async def _spooled(exporter: Exporter, digest: bytes, file: BinaryIO) -> Any:
    """Write a large session's data to a file; gives its record, None if it ended meanwhile."""
    while True:
        file.seek(0)
        file.truncate()
        try:
            record, pieces = await exporter.stream(digest)
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
        except SessionNotFound:
            return None
        except SessionChanged:
            continue
        file.seek(0)
        return record


def _verified(file: BinaryIO, digest: str | None) -> Exported:
    reader = Reader(file)
    while reader.next() is not None:
        reader.skip()
    assert reader.digest is not None
    if digest is not None and digest.strip().lower() != reader.digest:
        raise ArchiveDamaged(
            "the archive has another digest than was given: it is not the one that was exported"
        )
    return Exported(reader.position.sessions, reader.position.size, reader.digest)


def _page(reader: Reader, at_once: int) -> list[tuple[bytes, Any, bytes | None]]:
    """Some sessions with their data; the last may be a large one, whose data is still to be read."""
    page: list[tuple[bytes, Any, bytes | None]] = []
    size = 0
    while len(page) < PAGE_SESSIONS and size < PAGE_BYTES and (found := reader.next()) is not None:
        digest, record = found
        if record.size > at_once:
            page.append((digest, record, None))
            break
        page.append((digest, record, reader.read(record.size) if record.size else b""))
        size += record.size
    return page


async def _pieces(reader: Reader) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(reader.read):
        yield piece


def _counted(done: Imported, outcome: ImportOutcome, sizes: list[int]) -> Imported:
    name = {
        ImportOutcome.WRITTEN: "sessions", ImportOutcome.PRESENT: "present", ImportOutcome.NEWER: "newer", ImportOutcome.EXPIRED: "expired",
    }[outcome]  # fmt: skip
    written = sum(sizes) if outcome is ImportOutcome.WRITTEN else 0
    return replace(done, bytes=done.bytes + written, **{name: getattr(done, name) + len(sizes)})
