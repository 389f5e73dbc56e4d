"""The benchmarks run: on SQLite, tiny. How fast they are is nobody's business here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from benchmarks.distance import further_away
from benchmarks.own_servers import Unavailable, postgresql_server
from benchmarks.peers import PEERS, load
from benchmarks.regression import changes
from benchmarks.scratch import database

from .databases import REQUIRED

pytest.importorskip("matplotlib", reason="the benchmarks need the extra bench")

LONGEST = 240.0  # seconds, on a machine with much else to do


@pytest.mark.timeout(LONGEST + 20)
def test_benchmarks_run_on_sqlite(tmp_path: Path) -> None:
    names = ("throughput", "distances", "cache", "streaming", "memory", "coherence", "growth")
    only = [argument for name in names for argument in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--server", "sqlite"]
    subprocess.run([*command, *only, "--output", tmp_path], check=True, timeout=LONGEST)

    results = json.loads((tmp_path / "results.json").read_text())
    assert set(names) <= set(results)
    rates = [sample["rate"] for cell in results["throughput"]["cells"] for sample in cell["rounds"]]
    assert rates
    assert min(rates) > 0
    report = (tmp_path / "results.md").read_text()
    for text in (
        "raw aiosqlite FULL",
        "streaming 4 MiB, write",
        "peak memory",
        "read p50 at 2,000",
        "purge of",
        "writes, SQLite",
    ):
        assert text in report


def test_a_server_that_is_not_there_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLSESSIONS_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:1/postgres")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--server", "postgresql"]
    subprocess.run([*command, "--only", "throughput", "--output", tmp_path], check=True, timeout=LONGEST)

    report = (tmp_path / "results.md").read_text()
    assert "| sqlsessions, PostgreSQL | no postgresql server at " in report


# Django's settings are those of the process, in which other tests have theirs.
@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("Django")])
async def test_each_side_gives_back_what_was_written_last(name: str, tmp_path: Path) -> None:
    try:
        async with database(load(name).server) as url:
            peer = load(name)(url)
            await peer.setup(["one", "two"])
            for data in (b"a", b"b"):
                await peer.set("one", data)
                await asyncio.gather(peer.set("two", data), peer.get("one"))
            assert [await peer.get("one"), await peer.get("two")] == [b"b", b"b"]
            await peer.close()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("kind", "appendfsync"), [("redis", None), ("redis-always", "always")])
async def test_a_redis_keeps_what_its_name_says(kind: str, appendfsync: str | None) -> None:
    from redis.asyncio import Redis

    try:
        async with database(kind) as url, Redis.from_url(url, decode_responses=True) as redis:
            found = await redis.config_get("append*") | await redis.config_get("save")
    except Unavailable as error:
        (pytest.fail if REQUIRED else pytest.skip)(str(error))
    assert found["save"] == ""
    assert found["appendonly"] == ("yes" if appendfsync else "no")
    if appendfsync:
        assert found["appendfsync"] == appendfsync


async def test_a_slower_disk_holds_up_each_commit() -> None:
    seconds = 0.03
    try:
        async with postgresql_server(fsync=seconds) as url:
            connection = await asyncpg.connect(url)
            await connection.execute("CREATE TABLE rows (number int)")
            begun = time.monotonic()
            for number in range(3):
                await connection.execute("INSERT INTO rows VALUES ($1)", number)
            took = time.monotonic() - begun
            await connection.close()
    except Unavailable as error:
        (pytest.fail if REQUIRED and os.geteuid() == 0 else pytest.skip)(str(error))
    assert took >= 3 * seconds


async def test_a_server_can_be_further_away() -> None:
    from redis.asyncio import Redis

    seconds = 0.03
    try:
        async with (
            database("redis") as url,
            further_away(url, seconds) as further,
            Redis.from_url(further) as redis,
        ):
            await redis.ping()
            begun = time.monotonic()
            await asyncio.gather(*(redis.set(str(number), bytes(100_000)) for number in range(5)))
            data = await redis.get("4")
            took = time.monotonic() - begun
    except Unavailable as error:
        (pytest.fail if REQUIRED else pytest.skip)(str(error))
    assert data == bytes(100_000)
    assert took >= 2 * seconds


@pytest.mark.parametrize("work", [[], ["--web", "ours"]], ids=["calls", "requests"])
def test_two_commits_are_measured_side_by_side(work: list[str]) -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=False).returncode:
        pytest.skip("this is no checkout")
    command = [sys.executable, "-m", "benchmarks.compare_commits", "HEAD", "--server", "sqlite"]
    options = ["--rounds", "1", "--seconds", "0.05", "--callers", "4"]
    found = subprocess.run(
        [*command, *options, *work], check=True, timeout=100, capture_output=True, text=True
    )
    assert [line.split(" | ")[:3] for line in found.stdout.splitlines()[2:]] == [
        ["| sqlite", "4", "read"],
        ["| sqlite", "4", "write"],
    ]


def test_ratios_are_shown_beside_those_of_the_last_time(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    command = [sys.executable, "-m", "benchmarks.regression", "--quick", "--rounds", "1", "--kept", str(kept)]
    for _ in range(2):
        done = subprocess.run(
            [*command, "--server", "sqlite"], check=True, timeout=100, capture_output=True, text=True
        )
    lines = [line for line in done.stdout.splitlines() if "against raw aiosqlite FULL" in line]
    assert len(lines) == len(json.loads(kept.read_text())["ratios"]) == 4
    assert all(line.count("(") == 4 for line in lines)


@pytest.mark.parametrize(
    ("rate", "cpu", "found"),
    [([1.0, 3.0], [1.0], ""), ([1.0, 1.9], [1.0], "worse"), ([2.0], [1.3, 1.6], "worse"), ([9.0], [0.1], "")],
)
def test_what_is_worse_in_every_round_is_named(rate: list[float], cpu: list[float], found: str) -> None:
    last = {"rate": [2.0, 2.5], "cpu": [1.0, 1.2]}
    [line] = changes({"reads": {"rate": rate, "cpu": cpu}}, {"reads": last})
    assert line[-1] == found
