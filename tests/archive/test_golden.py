"""Archives of earlier versions stay readable, and the same sessions make the same archive for ever.

`golden/format-1.archive` was made once and is never made again: a change of the format is a new format.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from sqlsessions import SqlSessionStorage, records
from sqlsessions.archive import Imported, export_sessions, import_sessions
from sqlsessions.archive import format as format_1
from sqlsessions.records import Record, digest, from_datetime
from sqlsessions.testing import ManualClock

from ..sql.support import TINY, chunk_rows, each_database
from .test_archive import contents, new_storage

GOLDEN = Path(__file__).parent / "golden" / "format-1.archive"
DIGEST = "86dc3c869262e95ea6bb340a45e8b4034e7126ed7e50e9cb7f29c920451ff7f4"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)  # when all of its sessions live
NOW = from_datetime(AT)
HOUR, DAY = 3600 * 1_000_000, 24 * 3600 * 1_000_000
LARGE = bytes(range(256)) * 4
JSON_LIKE = b'{"key":"00"}\n{"sessions":0,"bytes":0}\n'

# By id: version, subject, created, updated, expires, ttl, ends; and the data.
SESSIONS = {
    "plain": (3_711_675_238_153_813_407, "alice", -DAY, -HOUR, 13 * DAY, 14 * DAY, None, b"data"),
    "never": (1, None, -1000 * DAY, -1000 * DAY, None, None, None, JSON_LIKE),
    "unicode": ((1 << 63) - 1, "Zoë \U0001f600 日本\t\"'\\", -5, -4, HOUR, HOUR, 2 * HOUR, bytes(range(90))),
    "empty": (3_711_675_238_153_813_408, "é" * 255, -1, -1, 1, 2, None, b""),
    "absolute": (3_711_675_238_153_813_409, "bob", -DAY, 0, 29 * DAY, None, 29 * DAY, b"\x00"),
    "large": (3_711_675_238_153_813_410, "alice", -DAY, -DAY, 13 * DAY, 14 * DAY, 99 * DAY, LARGE),
    "large, never": (3_711_675_238_153_813_411, None, -DAY, -DAY, None, None, None, LARGE[:301]),
}


def entries() -> list[tuple[bytes, Record, bytes]]:
    """The sessions of the golden archive, in the order of their digests."""
    found = []
    for id, (version, subject, created, updated, expires, ttl, ends, data) in SESSIONS.items():
        record = Record(
            version=version,
            size=len(data),
            subject=subject,
            created_at=NOW + created,
            updated_at=NOW + updated,
            expires_at=None if expires is None else NOW + expires,
            ttl=ttl,
            ends_at=None if ends is None else NOW + ends,
        )
        found.append((digest(id), record, data))
    return sorted(found, key=lambda entry: entry[0])


def read(format_: ModuleType, data: bytes) -> tuple[list[tuple[bytes, Record, bytes]], str]:
    """The sessions of an archive, and its digest."""
    reader, found = format_.Reader(io.BytesIO(data)), []
    while (each := reader.next()) is not None:
        found.append((*each, reader.read(each[1].size) if each[1].size else b""))
    return found, reader.digest


def written(format_: ModuleType, sessions: list[tuple[bytes, Record, bytes]]) -> bytes:
    """An archive of some sessions."""
    file = io.BytesIO()
    writer = format_.Writer(file)
    for session in sessions:
        writer.add(*session)
    writer.end()
    return file.getvalue()


def test_it_is_read_and_written_as_ever() -> None:
    golden = GOLDEN.read_bytes()
    assert read(format_1, golden) == (entries(), DIGEST)
    assert written(format_1, entries()) == golden
    assert golden[-32:].hex() == DIGEST


@each_database
async def test_it_is_imported_and_exported_again(sql_url: str, tmp_path: Path) -> None:
    async with SqlSessionStorage(sql_url, clock=ManualClock(AT), **TINY) as storage:
        done = await import_sessions(storage, GOLDEN, digest=DIGEST)
        size = sum(record.size for _, record, _ in entries())
        assert done == Imported(sessions=7, bytes=size, total=7, digest=DIGEST)
        wanted = [(record.info(digest), data) for digest, record, data in entries()]
        assert await contents(storage) == wanted
        assert len([seq for _, seq in await chunk_rows(sql_url) if seq >= 0]) == 11 + 4
        assert (await export_sessions(storage, tmp_path / "again")).digest == DIGEST
    assert (tmp_path / "again").read_bytes() == GOLDEN.read_bytes()


@pytest.fixture
def wider(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The format, as it is once a record has one more field."""

    @dataclass(slots=True)
    class WiderRecord(Record):
        device: str | None = None

    monkeypatch.setattr(records, "Record", WiderRecord)
    spec = importlib.util.find_spec(format_1.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, format_1.__name__, module)
    spec.loader.exec_module(module)
    assert module.Record is WiderRecord
    return module


def test_a_field_more_in_a_record_changes_nothing(wider: ModuleType) -> None:
    golden = GOLDEN.read_bytes()
    found, whole = read(wider, golden)
    assert whole == DIGEST
    assert [asdict(record) for _, record, _ in found] == [
        asdict(record) | {"device": None} for _, record, _ in entries()
    ]
    for _, record, _ in found:
        record.device = "phone"  # type: ignore[attr-defined]
    assert written(wider, found) == golden


async def test_what_has_expired_since_is_left_out(tmp_path: Path) -> None:
    async with await new_storage(tmp_path / "1.db", clock=ManualClock(AT + timedelta(hours=1))) as storage:
        done = await import_sessions(storage, GOLDEN)
        assert (done.sessions, done.expired) == (5, 2)
