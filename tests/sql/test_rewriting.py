"""On SQLite, a write over a session that was seen before leaves its row as any other write does."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import SessionConflict, SessionInfo, SqlSessionStorage
from sqlsessions._versions import KnownVersions
from sqlsessions.testing import ManualClock

from .support import LARGE, TINY, query, sqlite, statements

OLD: dict[str, dict[str, Any]] = {
    "plain": {},
    "named": {"subject": "ann", "labels": ["a", "b"], "client": {"ip": "::1"}},
    "endless": {"ttl": None, "max_age": None},
    "with an end": {"max_age": 1_000_000},
    "ends before it idles": {"ttl": 5000, "max_age": 6000},
    "idles long": {"ttl": 90 * 24 * 3600},
}
MEANWHILE = {
    "nothing": 0.0,
    "a while": 700.0,
    "long enough to expire": 400.0 * 24 * 3600,
    "a clock set back": -86400.0,
}


async def rows(
    url: str, *, seen: bool, old: dict[str, Any], meanwhile: float, data: bytes
) -> tuple[Any, ...]:
    """What a write gives and leaves, over a session that the storage has seen or one that it has not."""
    clock = ManualClock()
    async with SqlSessionStorage(url, clock=clock, **TINY) as storage:
        await storage.write_bytes("id", data, **old)
        clock.advance(60)
        await storage.touch("id", ttl=old.get("ttl", 3600))
        if not seen:
            storage._repository._executor.known = KnownVersions()
        clock.advance(meanwhile)
        info = await storage.write_bytes("id", b"new")
        assert info == await storage.info("id")
        [row] = await query(url, "SELECT * FROM sessions")
        await storage.invalidate("id")
    return SessionInfo(**{name: getattr(info, name) for name in INFO} | {"version": 1}), [*row][2:]


INFO = [*SessionInfo.__dataclass_fields__]


@sqlite
@pytest.mark.parametrize("data", [b"old", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("old", OLD)
async def test_a_row_is_the_same_whether_the_session_was_seen_or_not(
    sql_url: str, old: str, meanwhile: str, data: bytes
) -> None:
    given: dict[str, Any] = {"old": OLD[old], "meanwhile": MEANWHILE[meanwhile], "data": data}
    assert await rows(sql_url, seen=True, **given) == await rows(sql_url, seen=False, **given)


@sqlite
async def test_a_write_over_a_session_that_was_seen_changes_no_index(
    sql_url: str, clock: ManualClock
) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1) as storage:
        await storage.write_bytes("id", b"old", subject="ann")
        async with statements(storage) as seen:
            await storage.write_bytes("id", b"new")
            clock.advance(-2 * 3600)
            await storage.write_bytes("id", b"newer")
    first, miss, second = seen
    assert first.startswith("UPDATE")
    assert "subject" not in first.partition("WHERE")[0]
    assert "expires_bucket=" not in first.replace(" ", "")
    assert (miss.split()[0], second.split()[0]) == ("UPDATE", "INSERT")  # it expires an hour earlier or more


@sqlite
@pytest.mark.parametrize("meanwhile", [60.0, -2 * 3600.0], ids=["later", "an hour earlier or more"])
@pytest.mark.parametrize("old", OLD)
async def test_a_conditional_write_changes_no_index_and_leaves_the_row_of_one_with_options(
    sql_url: str, old: str, meanwhile: float
) -> None:
    left = []
    options: list[dict[str, Any]] = [{}, {"subject": OLD[old].get("subject")}]
    for same in options:  # the second is given an option that changes nothing
        clock = ManualClock()
        async with SqlSessionStorage(sql_url, clock=clock, pool_size=1) as storage:
            version = (await storage.write_bytes("id", b"old", **OLD[old])).version
            clock.advance(meanwhile)
            async with statements(storage) as seen:
                info = await storage.write_bytes("id", b"new", if_match=version, **same)
            assert info == await storage.info("id")
            left.append((await query(sql_url, "SELECT * FROM sessions"))[0][2:])
            with pytest.raises(SessionConflict):
                await storage.write_bytes("id", b"newer", if_match=version, **same)
            await storage.invalidate("id")
        assert all(each.startswith("UPDATE") for each in seen)
        kept = "expires_bucket=" not in seen[0].replace(" ", "")
        assert kept is not bool(same)
    assert left[0] == left[1]
