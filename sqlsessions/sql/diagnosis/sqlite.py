"""Diagnosis of SQLite."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

from sqlalchemy.ext.asyncio import AsyncConnection

from ..dialects.sqlite import database_file
from .base import Diagnosis, Finding, Plan, State, scalar
from .humanize import share, size

LARGE_WAL = 64 * 1024 * 1024
"""Bytes; SQLite restarts the log at about 4 MiB, unless reads overlap without a gap."""

FREE_PAGES = 1000
"""Fewer free pages are not worth a VACUUM."""

FULL = 2
SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs"})
MOUNTS = Path("/proc/self/mounts")


class SQLiteDiagnosis(Diagnosis):
    clock: ClassVar = None  # the host's
    version: ClassVar = "SELECT 'SQLite ' || sqlite_version()"

    async def settings(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        mode = str(await scalar(connection, "PRAGMA journal_mode"))
        if mode == "wal":
            yield Finding("journal_mode", State.OK, mode)
        else:
            yield Finding(
                "journal_mode",
                State.NOTE,
                f"{mode}: readers and writers block each other",
                "A storage over a URL sets WAL when it opens the file; with your own engine, set it yourself.",
            )
        synchronous = int(await scalar(connection, "PRAGMA synchronous"))
        seen = f"{SYNCHRONOUS[synchronous]} unless a connection sets another"
        if synchronous >= FULL:
            yield Finding("synchronous", State.OK, seen)
        else:
            advice = "A storage over a URL sets FULL; with your own engine, set it yourself."
            yield Finding("synchronous", State.NOTE, f"{seen}: a power loss may undo commits", advice)
        if file := database_file(plan.url):
            for finding in _of_file(file.absolute()):
                yield finding
        if plan.thorough:
            result = str(await scalar(connection, "PRAGMA quick_check(1)"))
            if result == "ok":
                yield Finding("integrity", State.OK, "every page is intact")
            else:
                advice = "Stop the services and restore a backup, or try sqlite3's .recover."
                yield Finding("integrity", State.PROBLEM, result, advice)

    async def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        pages = int(await scalar(connection, "PRAGMA page_count"))
        free = int(await scalar(connection, "PRAGMA freelist_count"))
        vacuum = ("none", "full", "incremental")[int(await scalar(connection, "PRAGMA auto_vacuum"))]
        seen = f"{share(free, pages)} of {pages:,} pages are free; auto_vacuum is {vacuum}"
        if free > FREE_PAGES and free > pages / 2:
            advice = "New sessions fill them. To return them to the disk, run VACUUM at a quiet time."
            yield Finding("free pages", State.NOTE, seen, advice)
        else:
            yield Finding("free pages", State.OK, seen)

    async def access(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        if (file := database_file(plan.url)) is None:
            return
        mode = file.absolute().parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            seen = "every user of this host may put another file in its place"
            yield Finding("directory", State.PROBLEM, seen, "Take the right to write from others: chmod o-w.")
        else:
            yield Finding("directory", State.OK, "other users of this host cannot replace the file")

    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        pages = await scalar(connection, "PRAGMA page_count")
        return int(pages) * int(await scalar(connection, "PRAGMA page_size"))


def _of_file(file: Path) -> list[Finding]:
    findings = []
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        findings.append(Finding("file", State.OK, "the file and its directory are writable"))
    else:
        seen = "this user cannot write the file or its directory"
        findings.append(
            Finding("file", State.PROBLEM, seen, "Give the service's user write permission for both.")
        )
    if others := [each.name for each in _files_of(file) if each.stat().st_mode & stat.S_IRWXO]:
        seen = f"every user of this host may use {', '.join(others)}"
        findings.append(
            Finding("file mode", State.NOTE, seen, "Give them the mode 0600, or 0660 for a group.")
        )
    else:
        findings.append(Finding("file mode", State.OK, "other users of this host have no access"))
    kind = _file_system(file)
    if kind in NETWORK_FILE_SYSTEMS:
        seen = f"{kind}, a network file system, where SQLite's locks do not work"
        findings.append(Finding("file system", State.PROBLEM, seen, "Move the file to a local disk."))
    elif kind is not None:
        findings.append(Finding("file system", State.OK, kind))
    wal = file.with_name(file.name + "-wal")
    length = wal.stat().st_size if wal.exists() else 0
    if length > LARGE_WAL:
        advice = "Look for a process that keeps a transaction open: the log cannot shrink until it ends."
        findings.append(Finding("write-ahead log", State.NOTE, size(length), advice))
    else:
        findings.append(Finding("write-ahead log", State.OK, size(length)))
    return findings


def _files_of(file: Path) -> list[Path]:
    """The files of a database that are there."""
    beside = (file.with_name(file.name + ending) for ending in ("-wal", "-shm", "-journal"))
    return [each for each in (file, *beside) if each.exists()]


def _file_system(file: Path) -> str | None:
    """The type of the file system that holds a file; None where the system does not report it."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return None
    file = file.resolve()
    over = [(len(place), kind) for _, place, kind, *_ in mounts if file.is_relative_to(place)]
    return max(over)[1] if over else None
