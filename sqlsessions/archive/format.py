"""Format 1 of archives.

A line that names the format; for each session, in the order of keys, a line of JSON with its fields, its
data, and 32 bytes of SHA-256 over all lines and data so far; at the end a line of JSON with the number of
sessions and of their bytes, and such a checksum. The same sessions give the same file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple

from .._validation import MAX_DURATION
from ..errors import ArchiveDamaged, SessionError
from ..records import (
    Record,
    checked_client,
    checked_labels,
    checked_subject,
    decoded_labels,
    encoded_labels,
    from_datetime,
    key_digest,
)

MAGIC = b"sqlsessions archive 1\n"
ANY_MAGIC = b"sqlsessions archive "
CHECKSUM_SIZE = 32
PIECE = 1024 * 1024  # bytes
MAX_LINE = 128 * 1024  # bytes; 16 labels of 255 characters take at most 49,000 in JSON, and a client 8,192
MAX_NUMBER = (1 << 63) - 1
MAX_TIME = from_datetime(datetime.max.replace(tzinfo=UTC))
MAX_SPAN = int(MAX_DURATION * 1_000_000)
MAX_PAST = MAX_TIME - MAX_SPAN
"""The latest time from which every duration that a storage takes ends before `MAX_TIME`."""

CUT_SHORT = "the archive is cut short: export it again, or go on with `--resume`"
DAMAGED = "the archive is damaged, or was changed, after {0:,} whole sessions: export it again"


KEY = "key"
# Part of the format, in this order, whatever a `Record` holds: another field needs another format.
NAMES = ("version", "size", "subject", "created_at", "updated_at", "expires_at", "ttl", "ends_at")
MORE = ("touched_at", "client", "labels")
"""The fields that only sessions have which need them, after the others and in this order."""
END = ("sessions", "bytes")


class Number(NamedTuple):
    """The limits of a number in a session's line; times and durations are microseconds."""

    least: int = 0
    most: int = MAX_TIME
    required: bool = False


NUMBERS = {
    "version": Number(1, MAX_NUMBER, required=True),
    "size": Number(0, MAX_NUMBER, required=True),
    "created_at": Number(most=MAX_PAST, required=True),
    "updated_at": Number(most=MAX_PAST, required=True),
    "expires_at": Number(),
    "ttl": Number(1, MAX_SPAN),
    "ends_at": Number(),
}
MORE_NUMBERS = {"touched_at": Number(most=MAX_PAST, required=True)}


class Entry(NamedTuple):
    """A session of an archive.

    Attributes:
        digest: The digest of its id.
        record: All else that is known about it.
        data: Its data; None if that is too large to be held in memory.
    """

    digest: bytes
    record: Record
    data: bytes | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data must not appear in reports of errors


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
        file: Receives it.
        resume_from: The position after the last whole session of a partial archive, and the checksum up to
            there, as a `Reader` found them; None begins an archive.
    """

    def __init__(self, file: BinaryIO, resume_from: tuple[Position, Any] | None = None) -> None:
        self._file = file
        if resume_from is not None:
            self.position, self._checksum = resume_from
            return
        self.position, self._checksum = Position(len(MAGIC)), hashlib.sha256(MAGIC)
        file.write(MAGIC)

    def add(self, digest: bytes, record: Record, data: bytes | BinaryIO) -> None:
        """Write a session with its data, given as bytes or in a file."""
        values = {name: getattr(record, name) for name in NAMES}
        more = {"touched_at": record.touched_at, "client": record.client and json.loads(record.client)}
        more["labels"] = list(decoded_labels(record.labels)) or None
        size = self._write(
            _line(
                {KEY: digest.hex()} | values | {name: more[name] for name in MORE if more[name] is not None}
            )
        )
        if isinstance(data, bytes):
            size += self._write(data)
        else:
            while piece := data.read(PIECE):
                size += self._write(piece)
        self._file.write(self._checksum.digest())
        before = self.position
        self.position = Position(
            before.offset + size + CHECKSUM_SIZE, before.sessions + 1, before.size + record.size, digest
        )

    def end(self) -> str:
        """Write the end; returns the archive's digest."""
        self._write(_line(dict(zip(END, (self.position.sessions, self.position.size), strict=True))))
        self._file.write(self._checksum.digest())
        return str(self._checksum.hexdigest())

    def _write(self, data: bytes) -> int:
        self._checksum.update(data)
        self._file.write(data)
        return len(data)


class Reader:
    """Reads an archive and verifies that it is whole.

    Args:
        file: The archive.

    Attributes:
        position: The position after the last session that was read whole.
        digest: The archive's digest, once its end was read.

    Raises:
        ArchiveDamaged: If it is no archive, of a newer format, cut short or changed; the methods raise it too.
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
        self.position, self._checksum = Position(len(MAGIC)), hashlib.sha256(magic)
        self._verified = self._checksum.copy()
        self._remaining = 0
        self._next: Position | None = None

    @property
    def resume_from(self) -> tuple[Position, Any]:
        """The position after the last whole session and the checksum there, for a `Writer` to go on."""
        return self.position, self._verified.copy()

    def next(self) -> tuple[bytes, Record] | None:
        """The digest and record of the next session, whose data must then be read; None at the end."""
        if self.digest is not None:
            return None
        line = self._file.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise self._damaged(cut=len(line) < MAX_LINE)
        self._checksum.update(line)
        values = self._parsed(line)
        if tuple(values) == END:
            self._verify()
            if line != _line(dict(zip(END, (self.position.sessions, self.position.size), strict=True))):
                raise self._damaged()
            if self._file.read(1):
                raise self._damaged()
            self.digest = self._checksum.hexdigest()
            return None
        digest, record = self._session(values)
        before = self.position
        self._remaining = record.size
        offset = before.offset + len(line) + record.size + CHECKSUM_SIZE
        self._next = Position(offset, before.sessions + 1, before.size + record.size, digest)
        if not self._remaining:
            self._end_session()
        return digest, record

    def read(self, size: int = PIECE) -> bytes:
        """Read some of the session's data; its last piece is returned once all of it was verified."""
        data = self._file.read(min(size, self._remaining))
        if len(data) < min(size, self._remaining):
            raise self._damaged(cut=True)
        self._checksum.update(data)
        if data:
            self._remaining -= len(data)
            if not self._remaining:
                self._end_session()
        return data

    def skip(self) -> None:
        """Read the rest of the session's data, to verify it."""
        while self._remaining:
            self.read()

    def _end_session(self) -> None:
        self._verify()
        assert self._next is not None
        self.position, self._verified = self._next, self._checksum.copy()

    def _verify(self) -> None:
        found = self._file.read(CHECKSUM_SIZE)
        if found != self._checksum.digest():
            cut = len(found) < CHECKSUM_SIZE and self._checksum.digest().startswith(found)
            raise self._damaged(cut=cut)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or line != _line(values):
            raise self._damaged()
        return values

    def _session(self, values: dict[str, Any]) -> tuple[bytes, Record]:
        more = [name for name in MORE if name in values]
        if tuple(values) != (KEY, *NAMES, *more):
            raise self._damaged()
        numbers = NUMBERS | {name: MORE_NUMBERS[name] for name in more if name in MORE_NUMBERS}
        for name, number in numbers.items():
            value = values[name]
            valid = type(value) is int and number.least <= value <= number.most
            if not valid and (number.required or value is not None):
                raise self._damaged()
        try:
            digest = key_digest(values[KEY])
            if values["subject"] is not None:
                checked_subject(values["subject"])
            texts = {
                "client": checked_client(values["client"]) if "client" in more else None,
                "labels": encoded_labels(checked_labels(values["labels"])) if "labels" in more else None,
            }
        except SessionError:
            digest = None
        if digest is None or digest.hex() != values[KEY] or digest <= self.position.last:
            raise self._damaged()
        if any(texts[name] != _text(values[name]) for name in more if name in texts):
            raise self._damaged()
        return digest, Record(**{name: values[name] for name in (*NAMES, *more)} | texts)

    def _damaged(self, *, cut: bool = False) -> ArchiveDamaged:
        return ArchiveDamaged(CUT_SHORT if cut else DAMAGED.format(self.position.sessions))


def _line(values: dict[str, Any]) -> bytes:
    return _text(values).encode() + b"\n"


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
