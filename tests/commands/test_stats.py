"""The command ``stats``, and the statistics that it prints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlsessions import SqlSessionStorage
from sqlsessions.testing import ManualClock

from ..sql.support import age, each_database, quiet
from .support import BEHIND, fill, run, some


def stats(url: str) -> Any:
    result = run("stats", "--json", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


NO_SIZES = [
    {"up_to": up_to, "sessions": 0, "bytes": 0}
    for up_to in (1024, 4096, 16384, 65536, 1 << 20, 1 << 24, None)
]


@each_database
def test_nothing(sql_url: str) -> None:
    found = stats(sql_url)
    del found["disk_bytes"]
    assert found == {
        "totals": {
            "live": 0,
            "bytes": 0,
            "largest_bytes": 0,
            "chunked": 0,
            "expired": 0,
            "expired_bytes": 0,
            "expired_since": None,
            "oldest_created_at": None,
            "last_updated_at": None,
            "next_expires_at": None,
            "with_subject": 0,
            "sizes": NO_SIZES,
        },
        "subjects": 0,
        "top_subjects": [],
        "orphans": {"waiting": 0, "overdue": 0, "overdue_chunks": 0, "overdue_bytes": 0},
    }
    assert run("stats", "--url", sql_url).exit_code == 0


@each_database
def test_some(sql_url: str) -> None:
    times: dict[str, datetime] = {}

    async def work(storage: SqlSessionStorage, clock: ManualClock) -> None:
        times["first"] = clock.now
        await some(storage, clock)
        times["last"] = clock.now
        await quiet(storage)
        await age(sql_url, 62)

    fill(sql_url, work)
    found = stats(sql_url)
    totals = found["totals"]
    assert {name: totals[name] for name in ("live", "bytes", "largest_bytes", "chunked")} == {
        "live": 6,
        "bytes": 3000 + 0 + 1 + 2 + 0 + len(b"of nobody"),
        "largest_bytes": 3000,
        "chunked": 1,
    }
    assert (totals["expired"], totals["expired_bytes"], totals["with_subject"]) == (1, 50, 5)
    assert datetime.fromisoformat(totals["expired_since"]) == times["first"] + timedelta(seconds=60)
    assert datetime.fromisoformat(totals["oldest_created_at"]) == times["first"]
    assert datetime.fromisoformat(totals["last_updated_at"]) == times["last"]
    assert datetime.fromisoformat(totals["next_expires_at"]) == times["first"] + timedelta(days=14)
    assert totals["sizes"][:2] == [
        {"up_to": 1024, "sessions": 5, "bytes": 12},
        {"up_to": 4096, "sessions": 1, "bytes": 3000},
    ]
    assert totals["sizes"][2:] == NO_SIZES[2:]
    assert found["subjects"] == 3  # "alice " is another than "alice", also where the database pads
    assert found["top_subjects"] == [
        {"subject": "alice", "sessions": 3, "bytes": 3},
        {"subject": "alice ", "sessions": 1, "bytes": 0},
        {"subject": "bob", "sessions": 1, "bytes": 3000},
    ]
    assert found["orphans"] == {"waiting": 0, "overdue": 1, "overdue_chunks": 3, "overdue_bytes": 3000}
    asyncio.run(purge(sql_url))
    after = stats(sql_url)
    assert (after["totals"]["live"], after["totals"]["expired"], after["orphans"]["overdue"]) == (6, 0, 0)
    assert after["top_subjects"] == found["top_subjects"]


@each_database
def test_what_is_superseded_or_staged_waits(sql_url: str) -> None:
    async def work(storage: SqlSessionStorage, clock: ManualClock) -> None:
        clock.advance(BEHIND.total_seconds())
        await storage.write_bytes("large", b"old" * 1000)
        await storage.write_bytes("large", b"new" * 1000)

    fill(sql_url, work)
    assert stats(sql_url)["orphans"] == {
        "waiting": 1,
        "overdue": 0,
        "overdue_chunks": 0,
        "overdue_bytes": 0,
    }


def test_sizes_at_the_bounds(make: Callable[[], str]) -> None:
    async def work(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for size in (0, 1024, 1025, 4096, 4097, 65536, 65537):
            await storage.write_bytes(f"of {size}", bytes(size))

    url = make()
    fill(url, work)
    assert [each["sessions"] for each in stats(url)["totals"]["sizes"]] == [2, 2, 1, 1, 1, 0, 0]
    shown = run("stats", "--url", url).stdout
    assert shown.count("█") == 24 + 24 + 12 + 12 + 12


def test_only_ten_subjects_are_named(make: Callable[[], str]) -> None:
    async def work(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for number in range(12):
            for session in range(number + 1):
                await storage.write_bytes(f"{number} {session}", b"", subject=f"user {number}")

    url = make()
    fill(url, work)
    found = stats(url)
    assert [each["sessions"] for each in found["top_subjects"]] == list(range(12, 2, -1))
    assert (found["subjects"], found["disk_bytes"] > 0) == (12, True)
    lines = [line.split() for line in run("stats", "--url", url).stdout.splitlines()]
    assert ["2", "others", "3"] in lines


async def purge(url: str) -> None:
    async with SqlSessionStorage(url) as storage:
        assert await storage.purge() == 1
