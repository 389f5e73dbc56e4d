"""The life of chunks: staged, current, superseded, orphaned, gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    SessionChanged,
    SessionConflict,
    SessionCorrupt,
    SessionNotFound,
    SqlSessionStorage,
)
from sqlsessions.sql import staging
from sqlsessions.sql.models import MOVED, TOMBSTONE
from sqlsessions.sql.statements import chunks
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, Pause, provider_of

from .support import INLINE, LARGE, TINY, age, chunk_rows, each_database, purge_in_time, query, quiet

DAY = 86_400.0
OLD, NEW = b"old" * 400, b"new" * 500
CRASHING = """
import asyncio, os, sys
from sqlsessions import SqlSessionStorage

async def provider(channel):
    await channel.write(b"x" * 350)
    os._exit(9)

asyncio.run(SqlSessionStorage(
    sys.argv[1], inline_limit=100, chunk_size=100, clock=lambda: float(sys.argv[2])
).write("id", provider))
"""


@pytest_asyncio.fixture
async def storage(sql_url: str, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        yield storage


ENDINGS: dict[str, Any] = {
    "overwritten by a small one": lambda s, _: s.write_bytes("id", INLINE),
    "overwritten by a large one": lambda s, _: s.write_bytes("id", NEW),
    "overwritten if it was the version": lambda s, info: s.write_bytes("id", INLINE, if_match=info.version),
    "invalidated": lambda s, _: s.invalidate("id"),
    "invalidated by key": lambda s, info: s.invalidate_key(info.key),
    "revoked": lambda s, _: s.revoke("ann"),
    "rotated": lambda s, _: s.rotate("id", "new"),
}


@each_database
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_superseded_version_is_kept_for_sixty_seconds_and_no_longer(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str, ending: str
) -> None:
    info = await storage.write_bytes("id", OLD, subject="ann")
    clock.advance(3 * DAY)  # the sixty seconds count from its end, not from its beginning
    lucky, late = Pause(), Pause()
    readers = [await pause.start(storage.read("id", pause.reading)) for pause in (lucky, late)]
    await ENDINGS[ending](storage, info)
    for step in (0, 50):
        await age(sql_url, step)
        await storage.purge()
    assert await lucky.finish(readers[0]) == OLD
    await age(sql_url, 12)
    clock.advance(62)
    await storage.purge()
    with pytest.raises(SessionChanged):
        await late.finish(readers[1])
    left = {version for version, _ in await chunk_rows(sql_url)}
    if ending == "rotated":
        assert left == {info.version}
        assert await storage.read_bytes("new") == OLD
        assert await query(sql_url, "SELECT count(DISTINCT id) FROM session_chunks") == [(1,)]
    elif ending == "overwritten by a large one":
        assert len(left - {info.version}) == len(left) == 1
        assert await storage.read_bytes("id") == NEW
    else:
        assert left == set()


@each_database
async def test_a_purge_leaves_alone_what_is_being_rotated(
    storage: SqlSessionStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies have the session's own version, which may be older than the purge's patience."""
    await storage.write_bytes("id", OLD, ttl=None)
    clock.advance(3 * DAY)
    count = chunks.count

    async def purging(connection: Any, version: int, digest: bytes) -> int:
        found = await count(connection, version, digest)
        if found and digest == sha256(b"new").digest():
            async with SqlSessionStorage(storage.engine.url, clock=clock, **TINY) as other:
                await other.purge()
        return found

    if storage.engine.dialect.name != "sqlite":  # where nobody else can write meanwhile
        monkeypatch.setattr(staging, "count", purging)
    await storage.rotate("id", "new")
    await storage.purge()
    clock.advance(3 * DAY)
    await storage.purge()
    assert await storage.read_bytes("new") == OLD


@each_database
async def test_what_a_rotation_reserved_that_died_then_is_deleted_after_a_day(
    storage: SqlSessionStorage, sql_url: str
) -> None:
    info = await storage.write_bytes("id", LARGE)
    digest, dialect = sha256(b"new").digest(), storage._database.dialect
    reserve = partial(chunks.reserve, dialect=dialect, version=info.version, digest=digest)
    await storage._database.transaction(reserve)
    before = await chunk_rows(sql_url)
    assert (info.version, -1) in before
    await age(sql_url, DAY + 50)
    await storage.purge()
    assert await chunk_rows(sql_url) == before
    await age(sql_url, 12)
    await storage.purge()
    assert await chunk_rows(sql_url) == [row for row in before if row[1] >= 0]
    assert await storage.read_bytes("id") == LARGE


@each_database
async def test_an_expired_version_is_kept_for_sixty_seconds_and_no_longer(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    await storage.write_bytes("id", OLD, ttl=100)
    clock.advance(99)
    lucky, late = Pause(), Pause()
    readers = [await pause.start(storage.read("id", pause.reading)) for pause in (lucky, late)]
    clock.advance(1)
    assert await storage.purge() == 1
    await age(sql_url, 50)
    await storage.purge()
    assert await lucky.finish(readers[0]) == OLD
    await age(sql_url, 12)
    await storage.purge()
    with pytest.raises(SessionChanged):
        await late.finish(readers[1])
    assert await chunk_rows(sql_url) == []


@each_database
async def test_what_a_crashed_writer_staged_is_kept_for_a_day_and_no_longer(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    await storage.write_bytes("id", INLINE, ttl=None)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHING, sql_url, str(clock()))
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 9
    staged = await chunk_rows(sql_url)
    assert len(staged) == 3
    await storage.purge()  # its day begins
    clock.advance(2 * DAY)
    await age(sql_url, DAY)
    await storage.purge()
    assert [row for row in await chunk_rows(sql_url) if row[1] >= 0] == staged
    await age(sql_url, 62)
    await storage.purge()
    assert await chunk_rows(sql_url) == []
    assert await storage.read_bytes("id") == INLINE


@each_database
@pytest.mark.parametrize("how", ["raises", "is cancelled", "conflicts"])
async def test_what_a_failed_write_staged_is_deleted_at_once(
    storage: SqlSessionStorage, sql_url: str, how: str
) -> None:
    info = await storage.write_bytes("id", OLD)
    kept = await chunk_rows(sql_url)
    if how == "raises":
        with pytest.raises(ZeroDivisionError):
            await storage.write("id", provider_of(NEW, then=ZeroDivisionError()))
    elif how == "is cancelled":
        pause = Pause()
        task = await pause.start(storage.write("id", pause.providing(NEW)))
        assert len(await chunk_rows(sql_url)) > len(kept)
        task.cancel()
        await asyncio.wait([task])
    else:
        with pytest.raises(SessionConflict):
            await storage.write("id", provider_of(NEW), if_match=info.version + 1)
    await storage.aclose()
    assert await chunk_rows(sql_url) == kept


@each_database
@pytest.mark.parametrize("more", [b"", b"x" * 300], ids=["at its end", "with more to come"])
async def test_a_write_that_outlives_its_staged_chunks_fails_and_leaves_nothing(
    storage: SqlSessionStorage, sql_url: str, more: bytes
) -> None:
    await storage.write_bytes("id", INLINE, ttl=None)
    pause = Pause()
    task = await pause.start(storage.write("id", pause.providing(NEW, more)))
    await storage.purge()
    await age(sql_url, DAY + 62)
    await storage.purge()
    with pytest.raises(SessionChanged):
        await pause.finish(task)
    await quiet(storage)
    assert await storage.read_bytes("id") == INLINE
    await storage.purge()
    await age(sql_url, DAY + 62)
    await storage.purge()
    assert await chunk_rows(sql_url) == []


@each_database
@pytest.mark.parametrize("missing", ["first", "middle", "last", "all"])
async def test_a_current_version_that_lacks_a_chunk_is_corrupt(
    storage: SqlSessionStorage, sql_url: str, missing: str
) -> None:
    await storage.write_bytes("id", OLD)
    where = {"first": "= 0", "middle": "= 5", "last": "= 11", "all": ">= 0"}[missing]
    await query(sql_url, f"DELETE FROM session_chunks WHERE seq {where}")
    with pytest.raises(SessionCorrupt):
        await storage.read_bytes("id")
    with pytest.raises(SessionCorrupt):
        await storage.load("id")
    with pytest.raises(SessionCorrupt):
        await storage.read("id", ByteReadChannel.read)
    await storage.write_bytes("id", NEW)
    assert await storage.read_bytes("id") == NEW


@each_database
@pytest.mark.parametrize("data", [INLINE, OLD], ids=["small", "large"])
@pytest.mark.parametrize("change", ["data = 'shorter' WHERE data IS NOT NULL", "size = size - 1"])
async def test_data_of_another_size_than_recorded_is_corrupt(
    storage: SqlSessionStorage, sql_url: str, data: bytes, change: str
) -> None:
    await storage.write_bytes("id", data)
    if data == OLD and change.startswith("data"):
        await query(sql_url, "UPDATE session_chunks SET data = 'shorter' WHERE seq = 5")
    else:
        await query(sql_url, f"UPDATE sessions SET {change}")
    with pytest.raises(SessionCorrupt):
        await storage.read_bytes("id")
    with pytest.raises(SessionCorrupt):
        await storage.read("id", ByteReadChannel.read)


@each_database
async def test_purge_in_small_batches_gets_through_all_and_keeps_what_lives(
    storage: SqlSessionStorage, clock: ManualClock, sql_url: str
) -> None:
    for number in range(7):
        await storage.write_bytes(f"expiring {number}", OLD[: 50 * number], ttl=60)
        await storage.write_bytes(f"overwritten {number}", OLD)
        await storage.write_bytes(f"overwritten {number}", INLINE)
        await storage.write_bytes(f"kept {number}", NEW, ttl=60)
    clock.advance(50)
    for number in range(7):
        await storage.touch(f"kept {number}", ttl=30 * DAY)
    await storage.rotate("kept 0", "rotated")
    clock.advance(3600)
    assert await storage.purge(batch_size=2, max_batches=1) <= 2
    deleted = [await storage.purge(batch_size=2, max_batches=2) for _ in range(12)]
    assert max(deleted) <= 4
    await age(sql_url, 62)
    assert await storage.purge(batch_size=2) == 0
    for name in ["rotated", *(f"kept {number}" for number in range(1, 7))]:
        assert await storage.read_bytes(name) == NEW
    assert len({version for version, _ in await chunk_rows(sql_url)}) == 7
    assert len(await chunk_rows(sql_url)) == 7 * 15
    # Their buckets were moved up to when they expire, so that the next purge need not look at them.
    assert await query(
        sql_url,
        "SELECT count(*) FROM sessions WHERE size = :size AND expires_bucket < :bucket",
        size=len(NEW),
        bucket=int(clock() // 3600) + 24,
    ) == [(0,)]


@each_database
async def test_a_large_session_outlives_its_chunks_day_of_staging(
    storage: SqlSessionStorage, clock: ManualClock
) -> None:
    async def provider(channel: ByteWriteChannel) -> None:
        await channel.write(OLD)
        clock.advance(DAY - 10)
        await channel.write(NEW)

    await storage.write("id", provider, ttl=None)
    clock.advance(400 * DAY)
    await storage.purge()
    assert await storage.read_bytes("id") == OLD + NEW


@each_database
async def test_the_note_of_a_move_is_purged(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        for number in range(3):
            await storage.write_bytes(f"old {number}", INLINE)
            await storage.rotate(f"old {number}", f"new {number}")
        assert await special_rows(sql_url) == [3, 3]
        clock.advance(30)
        await age(sql_url, 30)
        await storage.rotate("new 0", "newest")
        clock.advance(32)
        await age(sql_url, 32)
        await storage.purge()
        assert await special_rows(sql_url) == [1, 1]
        assert await storage.successor("new 0") is not None
        await storage.invalidate("newest")
        assert await special_rows(sql_url) == [1, 2]
        clock.advance(62)
        await age(sql_url, 62)
        await storage.purge()
        assert await chunk_rows(sql_url) == []


async def special_rows(url: str) -> list[int]:
    """How many notes of moves there are, and how many tombstones."""
    seqs = [seq for _, seq in await chunk_rows(url)]
    return [seqs.count(MOVED), sum(seq <= TOMBSTONE for seq in seqs)]


@each_database
async def test_a_rotation_that_was_asked_for_twice_harms_no_data(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage, SqlSessionStorage(sql_url, **TINY) as other:
        await other.write_bytes("id", LARGE)

        async def overtaken(connection: Any, **options: Any) -> int:
            total = await chunks.count(connection, **options)
            monkeypatch.undo()
            await storage.rotate("id", "new")
            await purge_in_time(storage, sql_url)
            return total

        monkeypatch.setattr(staging, "count", overtaken)
        with pytest.raises(SessionNotFound):
            await other.rotate("id", "new")
        assert await storage.read_bytes("new") == LARGE
