"""Archives in an unfriendly world: files of others, purges, writers at work, forgeries."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import ArchiveDamaged, InvalidArgument, SqlSessionStorage
from sqlsessions.archive import Exported, export_sessions, import_sessions
from sqlsessions.archive.format import MAGIC
from sqlsessions.records import digest
from sqlsessions.testing import ManualClock

from ..sql.support import TINY, chunk_rows, each_database, purge_in_time, query
from .test_archive import LARGE, contents, new_storage

DAY = 24 * 3600


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_partial_file_is_made_private_and_no_link_is_followed(tmp_path: Path) -> None:
    async with await new_storage(tmp_path / "1.db") as storage:
        await storage.write_bytes("id", b"data")
        (tmp_path / "a.partial").write_bytes(b"of before")
        (tmp_path / "a.partial").chmod(0o644)
        await export_sessions(storage, tmp_path / "a", force=True)
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
        (tmp_path / "b.partial").symlink_to(tmp_path / "elsewhere")
        calls: list[dict[str, Any]] = [{}, {"force": True}, {"resume": True}]
        for options in calls:
            with pytest.raises((OSError, InvalidArgument)):
                await export_sessions(storage, tmp_path / "b", **options)
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("way", ["owner", "name"])
async def test_a_partial_file_of_another_user_is_refused(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = tmp_path / "a.partial"
    partial.write_bytes(MAGIC)
    if way == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        partial.unlink()
        (tmp_path / "a name of another").write_bytes(MAGIC)
        partial.hardlink_to(tmp_path / "a name of another")
    async with await new_storage(tmp_path / "1.db") as storage:
        await storage.write_bytes("id", b"data")
        calls: list[dict[str, Any]] = [{"force": True}, {"resume": True}]
        for options in calls:
            with pytest.raises(InvalidArgument, match="is another user's"):
                await export_sessions(storage, tmp_path / "a", **options)
    assert partial.read_bytes() == MAGIC


async def test_a_row_that_is_out_of_range_keeps_no_other_from_being_listed(tmp_path: Path) -> None:
    async with await new_storage(tmp_path / "1.db") as storage:
        for id in ("one", "two"):
            await storage.write_bytes(id, b"data", subject="ann")
        url, top = f"sqlite+aiosqlite:///{tmp_path / '1.db'}", (1 << 63) - 1
        await query(url, f"UPDATE sessions SET version = {top}")
        assert 0 < (await storage.write_bytes("two", b"new", if_match=top)).version != top
        await storage.rotate("two", "three")
        wrong = {"created_at": (1 << 63) - 1, "updated_at": -(1 << 63), "expires_at": (1 << 63) - 1}
        values = ", ".join(f"{name} = {value}" for name, value in wrong.items())
        await query(url, f"UPDATE sessions SET {values} WHERE id = :id", id=digest("one"))
        assert {info.key async for info in storage.sessions()} == {
            digest(id).hex() for id in ("one", "three")
        }
        assert len([info async for info in storage.sessions("ann")]) == 2
        assert (await storage.read_bytes("one"), await storage.read_bytes("three")) == (b"data", b"new")
        assert await storage.revoke("ann") == 2


async def test_one_export_at_a_time_writes_a_file(tmp_path: Path) -> None:
    refused: list[str] = []
    async with await new_storage(tmp_path / "1.db") as storage:
        for number in range(600):
            await storage.write_bytes(f"id {number}", b"data")

        def meanwhile(_done: Exported) -> None:
            asyncio.get_running_loop().create_task(other())

        async def other() -> None:
            calls: list[dict[str, Any]] = [{"force": True}, {"resume": True}]
            for options in calls:
                try:
                    await export_sessions(storage, tmp_path / "a", **options)
                except InvalidArgument as error:
                    refused.append(str(error))

        await export_sessions(storage, tmp_path / "a", progress=meanwhile)
        assert any("another export" in message for message in refused)
    async with await new_storage(tmp_path / "2.db") as storage:
        assert (await import_sessions(storage, tmp_path / "a")).sessions == 600


@each_database
async def test_a_purge_leaves_alone_what_an_import_stages(
    sql_url: str, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await new_storage(tmp_path / "1.db", clock=clock) as one:
        await one.write_bytes("large", LARGE, ttl=None)
        await export_sessions(one, tmp_path / "a")
    clock.advance(40 * DAY)
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as other:
        stage = other._staging.stage

        async def purging(chunk: Any) -> None:
            await stage(chunk)
            await other.purge()

        monkeypatch.setattr(other._staging, "stage", purging)
        assert (await import_sessions(other, tmp_path / "a")).sessions == 1
        await other.purge()
        assert await other.read_bytes("large") == LARGE
        assert all(seq >= 0 for _, seq in await chunk_rows(sql_url))
        # What an import that was killed has staged goes in time.
        await other.invalidate("large")

        async def failing(chunk: Any) -> None:
            if chunk.seq == 3:
                raise RuntimeError
            await stage(chunk)

        monkeypatch.setattr(other._staging, "stage", failing)
        with pytest.raises(RuntimeError):
            await import_sessions(other, tmp_path / "a")
        clock.advance(2 * DAY)
        await purge_in_time(other, sql_url)
        assert await chunk_rows(sql_url) == []


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_what_was_touched_since_the_last_import_lives_on(
    data: bytes, clock: ManualClock, tmp_path: Path
) -> None:
    async with (
        await new_storage(tmp_path / "1.db", clock=clock) as one,
        await new_storage(tmp_path / "2.db", clock=clock) as other,
    ):
        await one.write_bytes("id", data, ttl=1000)
        await export_sessions(one, tmp_path / "first")
        await import_sessions(other, tmp_path / "first")
        clock.advance(900)
        await one.touch("id", ttl=2000)
        await export_sessions(one, tmp_path / "second")
        done = await import_sessions(other, tmp_path / "second")
        assert (done.present, done.sessions) == (1, 0)
        await import_sessions(other, tmp_path / "first")  # an expiry never moves backwards
        assert await contents(other) == await contents(one)
        clock.advance(1500)
        assert await other.read_bytes("id") == data


async def test_an_export_holds_a_few_mebibytes_whatever_the_rows_are(tmp_path: Path) -> None:
    wide: dict[str, Any] = {"inline_limit": 1 << 20, "chunk_size": 1 << 20}
    async with await new_storage(tmp_path / "1.db", **wide) as storage:
        for number in range(40):
            await storage.write_bytes(f"id {number}", os.urandom(1 << 20))
    async with await new_storage(tmp_path / "1.db") as storage:
        tracemalloc.start()
        try:
            assert (await export_sessions(storage, tmp_path / "a")).sessions == 40
            assert tracemalloc.get_traced_memory()[1] < 24 << 20
        finally:
            tracemalloc.stop()


FORGED = {
    "key": "00" * 32, "version": 1 << 60, "size": 1, "subject": None, "created_at": 10**15, "updated_at": 10**15,
    "expires_at": None, "ttl": None, "ends_at": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": (1 << 63) - 1}, {"updated_at": 1 << 60}, {"expires_at": (1 << 63) - 1},
        {"ends_at": (1 << 63) - 1}, {"version": 0}, {"version": 1 << 63}, {"size": -1}, {"ttl": 0},
        {"subject": ""}, {"subject": "\0"}, {"subject": "\ud800"}, {"subject": 1}, {"version": True}, {"key": "0"}, {"key": "0A" * 32},
        {"ttl": 32 * 10**15}, {"created_at": 23 * 10**16},
    ],
    ids=str,
)  # fmt: skip
async def test_values_that_no_session_has_are_refused_though_the_sums_are_right(
    change: dict[str, Any], tmp_path: Path
) -> None:
    whole, total = bytearray(MAGIC), hashlib.sha256(MAGIC)
    for known, data in ((FORGED | change, b"x"), ({"sessions": 1, "bytes": 1}, b"")):
        piece = json.dumps(known, separators=(",", ":")).encode() + b"\n" + data
        total.update(piece)
        whole += piece + total.digest()
    (tmp_path / "a").write_bytes(whole)
    async with await new_storage(tmp_path / "1.db") as storage:
        with pytest.raises(ArchiveDamaged):
            await import_sessions(storage, tmp_path / "a")
        assert await contents(storage) == []


async def test_nesting_without_end_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(MAGIC + b"[" * 8000 + b"\n")
    async with await new_storage(tmp_path / "1.db") as storage:
        with pytest.raises(ArchiveDamaged):
            await import_sessions(storage, tmp_path / "a")


async def test_writers_go_on_during_an_export(tmp_path: Path) -> None:
    async with (
        await new_storage(tmp_path / "1.db") as one,
        await new_storage(tmp_path / "2.db") as other,
    ):
        for number in range(300):
            await one.write_bytes(f"id {number}", b"%d:" % number + b"a" * (number % 300))
        exported, ended = False, set()

        async def writer(worker: int) -> None:
            for number in range(worker, 150, 3):
                if exported:
                    return
                await one.write_bytes(f"id {number}", b"%d:" % number + b"b" * ((number * 7) % 300))
                await one.invalidate(f"id {299 - number}")
                ended.add(299 - number)

        writers = asyncio.gather(*(writer(worker) for worker in range(3)))
        done = await export_sessions(one, tmp_path / "a")
        exported = True
        await writers
        await import_sessions(other, tmp_path / "a", digest=done.digest)
        for number in range(300):
            found = await other.load(f"id {number}")
            if found is None:
                assert number in ended
                continue
            start = b"%d:" % number
            old, new = start + b"a" * (number % 300), start + b"b" * ((number * 7) % 300)
            assert found.data in (old, new)
