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

from benchmarks.own_servers import Unavailable, postgresql_server
from benchmarks.peers import PEERS, load
from benchmarks.scratch import database

from .databases import REQUIRED

pytest.importorskip("matplotlib", reason="the benchmarks need the extra bench")

LONGEST = 240.0  # seconds, on a machine with much else to do


@pytest.mark.timeout(LONGEST + 20)
def test_benchmarks_run_on_sqlite(tmp_path: Path) -> None:
    names = ("throughput", "cache", "streaming", "memory", "coherence", "growth")
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


@pytest.mark.parametrize("name", PEERS)
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
