"""The file format of archives: records that are summed up one after the other.

A line that names the format; for each session, in the order of keys, a line of JSON with what is known about
it, its data, and 32 bytes of SHA-256 over all lines and data so far; at last a line of JSON with the number
of sessions and of their bytes, and such a sum. The same sessions make the same file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, BinaryIO

from ..errors import ArchiveDamaged, SessionError
from ..records import Record, checked_subject, from_datetime, key_digest

MAGIC = b"sqlsessions archive 1\n"
ANY_MAGIC = b"sqlsessions archive "
SUM_SIZE = 32
PIECE = 1024 * 1024  # bytes
MAX_LINE = 8192  # bytes; a subject of 255 characters takes at most 3,060 in JSON
MAX_NUMBER = (1 << 63) - 1
MAX_TIME = from_datetime(datetime.max.replace(tzinfo=UTC))

CUT_SHORT = "the archive is cut short: export it again, or go on with `--resume`"
DAMAGED = "the archive is damaged, or was changed, after {0:,} whole sessions: export it again"

_REQUIRED = ("version", "size", "created_at", "updated_at")
_LIMITS = {"version": (1, MAX_NUMBER), "size": (0, MAX_NUMBER), "ttl": (1, MAX_TIME)}
_NAMES = [field.name for field in fields(Record)]


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two sessions of an archive.

    Attributes:
        offset: Bytes of the file before it.
        sessions: Sessions before it.
        size: Bytes of their data.
        last: The digest of the last of them; empty if there is none.
    """

    offset: int
    sessions: int = 0
    size: int = 0
    last: bytes = b""


class Writer:
    """Writes an archive.

    Args:
        file: Where to.
        goes_on: Where a reader found the last whole session, and its sum so far; None begins an archive.
    """

    def __init__(self, file: BinaryIO, goes_on: tuple[Position, Any] | None = None) -> None:
        self._file = file
        if goes_on is not None:
            self.position, self._sum = goes_on
            return
        self.position, self._sum = Position(len(MAGIC)), hashlib.sha256(MAGIC)
        file.write(MAGIC)

    def add(self, digest: bytes, record: Record, data: bytes | BinaryIO) -> None:
        """Write a session, whose data is at hand or in a file."""
        known = {"key": digest.hex()} | {name: getattr(record, name) for name in _NAMES}
        written = self._write(_line(known))
        if isinstance(data, bytes):
            written += self._write(data)
        else:
            while piece := data.read(PIECE):
                written += self._write(piece)
        self._file.write(self._sum.digest())
        before = self.position
        self.position = Position(
            before.offset + written + SUM_SIZE, before.sessions + 1, before.size + record.size, digest
        )

    def end(self) -> str:
        """Write the end; gives the archive's digest."""
        self._write(_line({"sessions": self.position.sessions, "bytes": self.position.size}))
        self._file.write(self._sum.digest())
        return str(self._sum.hexdigest())

    def _write(self, data: bytes) -> int:
        self._sum.update(data)
        self._file.write(data)
        return len(data)


class Reader:
    """Reads an archive and makes sure that it is whole.

    Args:
        file: Where from.

    Attributes:
        position: After the last session that was read whole.
        digest: The archive's digest, once its end was read.

    Raises:
        ArchiveDamaged: If it is none, of a newer format, cut short or changed; also of the methods.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest: str | None = None
        magic = file.read(len(MAGIC))
        if magic != MAGIC:
            if MAGIC.startswith(magic) and magic:
                raise ArchiveDamaged(CUT_SHORT)
            if magic.startswith(ANY_MAGIC):
                raise ArchiveDamaged(
                    "the archive is of a newer format: run `pip install --upgrade sqlsessions`"
                )
            raise ArchiveDamaged(
                "this is no archive of sqlsessions: name a file that `sqlsessions export` made"
            )
        self.position, self._sum = Position(len(MAGIC)), hashlib.sha256(magic)
        self._whole = self._sum.copy()
        self._left = 0
        self._next: Position | None = None

    @property
    def goes_on(self) -> tuple[Position, Any]:
        """Where a `Writer` can go on."""
        return self.position, self._whole.copy()

    def next(self) -> tuple[bytes, Record] | None:
        """What is known about the next session, whose data must then be read; None at the end."""
        if self.digest is not None:
            return None
        line = self._file.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise self._damaged(cut=len(line) < MAX_LINE)
        self._sum.update(line)
        known = self._parsed(line)
        if known.keys() == {"sessions", "bytes"}:
            self._check()
            if (known["sessions"], known["bytes"]) != (self.position.sessions, self.position.size):
                raise self._damaged()
            if self._file.read(1):
                raise self._damaged()
            self.digest = self._sum.hexdigest()
            return None
        digest, record = self._session(known)
        before = self.position
        self._left = record.size
        offset = before.offset + len(line) + record.size + SUM_SIZE
        self._next = Position(offset, before.sessions + 1, before.size + record.size, digest)
        if not self._left:
            self._end_session()
        return digest, record

    def read(self, size: int = PIECE) -> bytes:
        """Read some of the session's data, of which the last piece comes once all of it was checked."""
        data = self._file.read(min(size, self._left))
        if len(data) < min(size, self._left):
            raise self._damaged(cut=True)
        self._sum.update(data)
        if data:
            self._left -= len(data)
            if not self._left:
                self._end_session()
        return data

    def skip(self) -> None:
        """Read the session's data and make nothing of it."""
        while self._left:
            self.read()

    def _end_session(self) -> None:
        self._check()
        assert self._next is not None
        self.position, self._whole = self._next, self._sum.copy()

    def _check(self) -> None:
        found = self._file.read(SUM_SIZE)
        if found != self._sum.digest():
            raise self._damaged(cut=len(found) < SUM_SIZE and self._sum.digest().startswith(found))

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            known = json.loads(line)
        except (ValueError, RecursionError):
            known = None
        if not isinstance(known, dict) or line != _line(known):
            raise self._damaged()
        return known

    def _session(self, known: dict[str, Any]) -> tuple[bytes, Record]:
        if list(known) != ["key", *_NAMES]:
            raise self._damaged()
        for name in _NAMES:
            value, (least, most) = known[name], _LIMITS.get(name, (0, MAX_TIME))
            if name != "subject" and not (
                (type(value) is int and least <= value <= most) or (value is None and name not in _REQUIRED)
            ):
                raise self._damaged()
        try:
            digest = key_digest(known["key"])
            if known["subject"] is not None:
                checked_subject(known["subject"])
        except SessionError:
            digest = None
        if digest is None or digest <= self.position.last:
            raise self._damaged()
        return digest, Record(**{name: known[name] for name in _NAMES})

    def _damaged(self, *, cut: bool = False) -> ArchiveDamaged:
        return ArchiveDamaged(CUT_SHORT if cut else DAMAGED.format(self.position.sessions))


def _line(known: dict[str, Any]) -> bytes:
    return json.dumps(known, separators=(",", ":")).encode() + b"\n"
