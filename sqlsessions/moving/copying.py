"""`copy_sessions`: copies another library's sessions to a database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from .._versions import new_version
from ..archive.format import Entry
from ..archive.importing import Growth, ImportOutcome, write_large, write_small
from ..layers.sources import OldSession, Refused, Source, reaching
from ..records import Options, Record, earliest, from_datetime, written
from ..sql.internals import Internals, internals_of
from ..sql.storage import SqlSessionStorage
from ..storage import DEFAULT

PAGE = 250  # sessions
PAGE_BYTES = 4 * 1024 * 1024
TOO_LARGE = "its data is larger than the storage's max_size"


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of a copy, or of a dry run of one.

    Attributes:
        sessions: Written to the database.
        bytes: Of their data together.
        present: Were in the database already, and stay as they are.
        expired: Had expired.
        refused: Those that cannot be copied: how many, by the reason.
    """

    sessions: int = 0
    bytes: int = 0
    present: int = 0
    expired: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """How many sessions were dealt with."""
        return self.sessions + self.present + self.expired + self.refused.total()


async def copy_sessions(
    source: Source,
    storage: SqlSessionStorage,
    *,
    dry_run: bool = False,
    progress: Callable[[Copied], None] | None = None,
) -> Copied:
    """Copy the sessions of another library to a database; the source stays as it is.

    A session keeps its cookie and its end; once it is used it gets the storage's idle timeout. One that the
    database has already stays as it is there, so that a copy that was broken off is finished by copying again. A
    session that ended since it was copied comes back with a second copy: copy before the service uses the
    database, or use `MigratingStorage`.

    Args:
        source: Where the sessions are.
        storage: Gets them. Layers above it are not used: their data is for `MigratingStorage`.
        dry_run: Only count.
        progress: Called after each page with what is done so far.

    Raises:
        StorageUnavailable: If either place cannot be used.
    """
    copy = _Copy(storage, dry_run=dry_run)
    page: list[OldSession] = []
    size = 0
    with reaching(source):
        async for found in source.sessions():
            if isinstance(found, Refused):
                copy.refused[found.reason] += 1
                continue
            page.append(found)
            size += len(found.data)
            if len(page) >= PAGE or size >= PAGE_BYTES:
                await copy.add(page)
                page, size = [], 0
                if progress:
                    progress(copy.outcome())
    if page:
        await copy.add(page)
    return copy.outcome()


class _Copy:
    """A copy that is under way.

    Args:
        storage: Gets the sessions.
        dry_run: Only count.
    """

    def __init__(self, storage: SqlSessionStorage, *, dry_run: bool) -> None:
        self._storage, self._dry_run = storage, dry_run
        self._internals: Internals = internals_of(storage)
        self._growth = Growth(self._internals)
        self._began = self._internals.repository.now()
        self._counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def outcome(self) -> Copied:
        return Copied(**self._counts, refused=self.refused.copy())

    async def add(self, page: list[OldSession]) -> None:
        """Write a page of sessions, or count it."""
        entries = {}
        for session in page:
            if self._storage.max_size is not None and len(session.data) > self._storage.max_size:
                self.refused[TOO_LARGE] += 1
            else:
                digest = self._storage.digest(session.id)
                entries[digest.hex()] = Entry(digest, self._record(session), session.data)
        present = await self._storage.infos(entries)
        self._counts["present"] += len(present)
        now = self._internals.repository.now()
        new = [entry for key, entry in entries.items() if key not in present]
        live = [entry for entry in new if entry.record.live(now)]
        self._counts["expired"] += len(new) - len(live)
        outcomes = [ImportOutcome.WRITTEN] * len(live) if self._dry_run else await self._written(live)
        for entry, outcome in zip(live, outcomes, strict=True):
            if outcome is ImportOutcome.WRITTEN:
                self._counts["sessions"] += 1
                self._counts["bytes"] += entry.record.size
            else:  # the service wrote it meanwhile
                self._counts["expired" if outcome is ImportOutcome.EXPIRED else "present"] += 1

    async def _written(self, entries: list[Entry]) -> list[ImportOutcome]:
        """Write sessions, small ones in one transaction; the outcomes in their order."""
        most = self._internals.limits.at_once
        small = [entry for entry in entries if entry.record.size <= most]
        found = dict(zip((entry.digest for entry in small), await self._small(small), strict=True))
        await self._growth.add(len(small))
        for entry in entries:
            if entry.digest not in found:
                found[entry.digest] = await write_large(self._internals, entry, _whole(entry))
        return [found[entry.digest] for entry in entries]

    async def _small(self, entries: list[Entry]) -> list[ImportOutcome]:
        return await write_small(self._internals, entries) if entries else []

    def _record(self, session: OldSession) -> Record:
        """The record of a session: a new one of the storage, with the end that it had."""
        options = Options.checked(DEFAULT, DEFAULT, session.subject, None)
        size, defaults = len(session.data), self._internals.defaults
        # Dated to the begin, so that what the service has written since counts as newer.
        record = written(None, options, self._began, new_version(), size, defaults)
        if session.expires_at is None:
            return record
        end = from_datetime(session.expires_at)
        ends_at = earliest(record.ends_at, end if session.absolute else None)
        return replace(record, expires_at=earliest(end, ends_at), ends_at=ends_at)


async def _whole(entry: Entry) -> AsyncIterator[bytes]:
    assert entry.data is not None
    yield entry.data
