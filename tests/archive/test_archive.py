"""Sessions move from any database to any other, whole, and exactly as they were."""

from __future__ import annotations

import asyncio
import os
import stat
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import ArchiveDamaged, InvalidArgument, SqlSessionStorage, schema
from sqlsessions.archive import Exported, export_sessions, import_sessions
from sqlsessions.sql.engine.urls import async_url
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of

from ..databases import available
from ..sql.support import TINY, age, query

LARGE = bytes(range(256)) * 3
PAIRS = [("sqlite", "postgresql"), ("postgresql", "mariadb"), ("mysql", "sqlite"), ("sqlite", "sqlite")]
COLUMNS = (
    "id, version, size, subject, created_at, updated_at, expires_at, ttl, ends_at, touched_at, client, labels"
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=PAIRS, ids="-to-".join)
def urls(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    made = [(available(kind), available(kind).create()) for kind in request.param]
    yield [async_url(url).render_as_string(hide_password=False) for _, url in made]
    for server, url in made:
        server.drop(url)


@pytest_asyncio.fixture
async def two(urls: list[str], clock: ManualClock) -> AsyncIterator[list[SqlSessionStorage]]:
    for url in urls:
        await schema.upgrade(url)
    async with (
        SqlSessionStorage(urls[0], clock=clock, **TINY) as one,
        SqlSessionStorage(urls[1], clock=clock, **TINY) as other,
    ):
        yield [one, other]


async def new_storage(path: Path, **options: Any) -> SqlSessionStorage:
    url = f"sqlite:///{path}"
    await schema.upgrade(url)
    return SqlSessionStorage(url, **(TINY | {"synchronous": "NORMAL"} | options))


async def fill(storage: SqlSessionStorage, clock: ManualClock, number: int = 12) -> None:
    for each in range(number):
        clock.advance(1)
        await storage.write_bytes(f"id {each}", b"data %d" % each, subject=f"subject {each % 3} é\U0001f600")
    await storage.write("large", provider_of(LARGE, LARGE), ttl=None, subject="ann")
    await storage.write_bytes("empty", b"", max_age=3600)
    client = {"address": "::1", "user_agent": "é\U0001f600"}
    await storage.write_bytes("id 2", b"named", ttl=60, labels=["sid:1", "tenant:é\U0001f600"], client=client)
    await storage.write("large", provider_of(LARGE, LARGE), labels=["sid:2"])
    clock.advance(10)
    await storage.touch("id 2")
    await storage.write_bytes("id 1", b"again", ttl=60)
    await storage.write_bytes("expired", b"gone", ttl=0.5)
    clock.advance(0.5)


async def contents(storage: SqlSessionStorage) -> list[tuple[Any, ...]]:
    """All that is known of live sessions; and every one can be loaded by its key."""
    return [
        (info, await storage.read_key(info.key, lambda channel: channel.read()))
        async for info in storage.sessions()
    ]


async def rows(url: str) -> list[tuple[Any, ...]]:
    found = await query(url, f"SELECT {COLUMNS} FROM sessions")
    return sorted((bytes(row[0]), *row[1:]) for row in found)


async def test_every_column_arrives(
    two: list[SqlSessionStorage], urls: list[str], clock: ManualClock, tmp_path: Path
) -> None:
    one, other = two
    await fill(one, clock)
    steps: list[Exported] = []
    exported = await export_sessions(one, tmp_path / "a", progress=steps.append)
    assert exported.sessions == 14
    assert steps[-1].sessions == 14
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    imported = await import_sessions(other, tmp_path / "a", digest=exported.digest)
    assert (imported.sessions, imported.bytes, imported.done) == (14, exported.bytes, 14)
    assert await contents(other) == await contents(one)
    for label in ("sid:1", "sid:2", "tenant:é\U0001f600"):
        assert len([info async for info in other.sessions(label=label)]) == 1
    await one.purge()
    assert await rows(urls[1]) == await rows(urls[0])
    assert await other.read_bytes("large") == LARGE * 2
    assert (await export_sessions(other, tmp_path / "b")).digest == exported.digest
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    # Again: all of it is there.
    again = await import_sessions(other, tmp_path / "a")
    assert (again.sessions, again.present, again.bytes) == (0, 14, 0)
    assert await contents(other) == await contents(one)
    # What it brought lives on as any other session.
    assert await other.touch("id 3", ttl=None) is not None
    info = await other.rotate("large", "new")
    await other.write_bytes("new", b"small", if_match=info.version)
    await other.invalidate("id 2")
    assert await other.load("id 2") is None


async def test_newer_older_and_expired(
    two: list[SqlSessionStorage], clock: ManualClock, tmp_path: Path
) -> None:
    one, other = two
    for id in ("older", "older large", "expired there"):
        await other.write_bytes(id, LARGE if "large" in id else b"there", ttl=5 if "expired" in id else None)
    clock.advance(10)
    for id in ("older", "older large", "expired there", "newer", "newer large", "expires"):
        await one.write_bytes(id, LARGE if "large" in id else b"here", ttl=5 if id == "expires" else None)
    clock.advance(1)
    for id in ("newer", "newer large"):
        await other.write_bytes(id, b"there")
    await export_sessions(one, tmp_path / "a")
    clock.advance(10)
    done = await import_sessions(other, tmp_path / "a")
    assert (done.sessions, done.newer, done.expired, done.total) == (3, 2, 1, 6)
    assert await other.read_bytes("older") == await other.read_bytes("expired there") == b"here"
    assert await other.read_bytes("older large") == LARGE
    assert await other.read_bytes("newer") == await other.read_bytes("newer large") == b"there"
    assert await other.load("expires") is None


async def test_inline_or_not_is_the_new_databases_affair(clock: ManualClock, tmp_path: Path) -> None:
    one = await new_storage(tmp_path / "1.db", clock=clock)
    other = await new_storage(tmp_path / "2.db", clock=clock, inline_limit=10_000, chunk_size=10_000)
    third = await new_storage(tmp_path / "3.db", clock=clock, inline_limit=5, chunk_size=7)
    await fill(one, clock)
    await export_sessions(one, tmp_path / "a")
    for storage in (other, third):
        await import_sessions(storage, tmp_path / "a")
        assert await contents(storage) == await contents(one)
    assert await query(f"sqlite+aiosqlite:///{tmp_path}/2.db", "SELECT count(*) FROM session_chunks") == [
        (0,)
    ]
    for storage in (one, other, third):
        await storage.aclose()


async def test_a_purge_leaves_alone_what_is_being_imported(clock: ManualClock, tmp_path: Path) -> None:
    """A large session's chunks come under its own version, which may be older than the purge's patience."""
    one, other = [await new_storage(tmp_path / f"{name}.db", clock=clock) for name in "12"]
    await one.write("large", provider_of(LARGE), ttl=None)
    clock.advance(3 * 24 * 3600)
    await export_sessions(one, tmp_path / "a")
    stage = other._staging.stage

    async def purging(chunk: Any) -> None:
        await stage(chunk)
        await other.purge()

    other._staging.stage = purging  # type: ignore[method-assign]
    await import_sessions(other, tmp_path / "a")
    clock.advance(3 * 24 * 3600)
    await other.purge()
    assert await other.read_bytes("large") == LARGE
    for storage in (one, other):
        await storage.aclose()


async def test_a_session_that_changes_while_it_is_exported(clock: ManualClock, tmp_path: Path) -> None:
    storage = await new_storage(tmp_path / "1.db", clock=clock)
    await storage.write("id", provider_of(LARGE))
    await storage.write("ends", provider_of(LARGE))
    stream, changed = storage._staging.stream, False

    async def change(digest: bytes, version: int, total: int) -> AsyncIterator[bytes]:
        nonlocal changed
        if not changed:
            changed = True
            await storage.write("id", provider_of(LARGE[:500]))
            await storage.invalidate("ends")
            await age(f"sqlite+aiosqlite:///{tmp_path}/1.db", 62)
            await storage.purge()
        async for piece in stream(digest, version, total):
            yield piece

    storage._staging.stream = change  # type: ignore[method-assign]
    exported = await export_sessions(storage, tmp_path / "a")
    assert (exported.sessions, exported.bytes) == (1, 500)
    other = await new_storage(tmp_path / "2.db", clock=clock)
    await import_sessions(other, tmp_path / "a")
    assert await other.read_bytes("id") == LARGE[:500]
    for each in (storage, other):
        await each.aclose()


@pytest_asyncio.fixture
async def archive(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Path]:
    """A small archive, with a large session."""
    storage = await new_storage(tmp_path / "from.db", clock=clock)
    await storage.write_bytes("one", b"1", subject="ann")
    await storage.write("large", provider_of(LARGE[:120]), ttl=None)
    await storage.write_bytes("empty", b"")
    await export_sessions(storage, tmp_path / "archive")
    yield tmp_path / "archive"
    await storage.aclose()


async def test_no_change_goes_unnoticed(archive: Path, clock: ManualClock, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    storage = await new_storage(tmp_path / "to.db", clock=clock)
    parts = whole.split(b'{"key"')
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    changed += [whole[:at] for at in range(len(whole))]
    changed += [whole + b"\n", whole + whole, b'{"key"'.join([parts[0], *parts[2:]])]
    changed += [b'{"key"'.join([*parts[:2], parts[1], *parts[2:]])]
    changed += [b'{"key"'.join([parts[0], parts[2], parts[1], *parts[3:]])]
    for data in changed:
        archive.write_bytes(data)
        with pytest.raises(ArchiveDamaged) as caught:
            await import_sessions(storage, archive)
        assert "ann" not in str(caught.value)
    assert await contents(storage) == []
    archive.write_bytes(whole)
    with pytest.raises(ArchiveDamaged, match="another digest"):
        await import_sessions(storage, archive, digest="0" * 64)
    archive.write_bytes(whole.replace(b"archive 1", b"archive 2"))
    with pytest.raises(ArchiveDamaged, match="newer format"):
        await import_sessions(storage, archive)
    assert await contents(storage) == []
    await storage.aclose()


async def test_an_export_can_be_resumed_wherever_it_was_cut_off(
    archive: Path, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # a thousand times would take long
    whole = archive.read_bytes()
    storage = await new_storage(tmp_path / "from.db", clock=clock)
    partial_file = tmp_path / "new.partial"
    for size in range(len(whole) + 1):
        partial_file.write_bytes(whole[:size])
        exported = await export_sessions(storage, tmp_path / "new", resume=True, force=True)
        assert (tmp_path / "new").read_bytes() == whole
        assert exported.sessions == 3
        assert not partial_file.exists()
    partial_file.write_bytes(b"something else")
    with pytest.raises(ArchiveDamaged, match="no archive"):
        await export_sessions(storage, tmp_path / "new", resume=True, force=True)
    assert partial_file.read_bytes() == b"something else"
    with pytest.raises(InvalidArgument, match="--force"):
        await export_sessions(storage, tmp_path / "new")
    (tmp_path / "third.partial").write_bytes(b"")
    with pytest.raises(InvalidArgument, match="--resume"):
        await export_sessions(storage, tmp_path / "third")
    await storage.aclose()


session = st.tuples(
    st.binary(max_size=150),
    st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255)),
    st.one_of(st.none(), st.floats(1, 1e9)),
    st.one_of(st.none(), st.floats(1, 1e9)),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(session, max_size=6))
def test_whatever_a_session_holds(tmp_path_factory: Any, sessions: list[Any]) -> None:
    async def move() -> None:
        clock, folder = ManualClock(), tmp_path_factory.mktemp("move")
        one, other = (
            SqlSessionStorage("sqlite://", clock=clock, **TINY),
            SqlSessionStorage("sqlite://", clock=clock),
        )
        for number, (data, subject, ttl, max_age) in enumerate(sessions):
            await one.write_bytes(f"id {number}", data, subject=subject, ttl=ttl, max_age=max_age)
        exported = await export_sessions(one, folder / "a")
        assert exported.sessions == len(sessions)
        await import_sessions(other, folder / "a")
        assert await contents(other) == await contents(one)
        assert (await export_sessions(other, folder / "b")).digest == exported.digest
        await one.aclose()
        await other.aclose()

    asyncio.run(move())


async def test_memory_does_not_grow_with_a_session(tmp_path: Path) -> None:
    one = await new_storage(tmp_path / "1.db", inline_limit=65_536, chunk_size=262_144)
    other = await new_storage(tmp_path / "2.db", inline_limit=65_536, chunk_size=262_144)
    await one.write("large", provider_of(*[os.urandom(1 << 20)] * 40))
    tracemalloc.start()
    try:
        exported = await export_sessions(one, tmp_path / "a")
        await import_sessions(other, tmp_path / "a", digest=exported.digest)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()
    assert (await export_sessions(other, tmp_path / "b")).digest == exported.digest
    await one.aclose()
    await other.aclose()
