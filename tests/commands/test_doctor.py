"""The command ``doctor``."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions.sql.diagnosis import doctor as diagnosis
from sqlsessions.sql.diagnosis import (
    mysql as diagnosis_mysql,
)
from sqlsessions.sql.diagnosis import (
    postgresql as diagnosis_postgresql,
)
from sqlsessions.sql.diagnosis import (
    sqlite as diagnosis_sqlite,
)
from sqlsessions.sql.diagnosis.doctor import Finding, Plan, State
from sqlsessions.sql.diagnosis.statistics import Totals
from sqlsessions.sql.engine.database import Database
from sqlsessions.sql.engine.temporary import TEMPORARY, temporary_engine
from sqlsessions.testing import ManualClock

from ..sql.support import each_database, each_server, mariadb, postgresql, query
from .support import fill, run, some


def doctor(url: str, *options: str, code: int | None = None) -> dict[str, dict[str, Any]]:
    """The findings, by what was looked at; of several, the last."""
    result = run("doctor", "--json", "--url", url, *options)
    findings = json.loads(result.stdout)
    problems = any(finding["state"] == "problem" for finding in findings)
    assert result.exit_code == (1 if problems else 0)
    if code is not None:
        assert result.exit_code == code, findings
    assert result.stderr == ""
    return {finding["check"]: finding for finding in findings}


@each_database
def test_what_is_looked_at(sql_url: str) -> None:
    found = doctor(sql_url)
    expected = {"connection", "tables", "expired sessions", "orphaned chunks"}
    expected |= {
        "sqlite": {"journal_mode", "synchronous", "file", "write-ahead log", "free pages"},
        "postgresql": {
            *("clock", "writable", "fsync", "full_page_writes", "synchronous_commit", "connections"),
            *("autovacuum", "HOT updates"),
        },
        "mysql": {
            *("clock", "writable", "innodb_flush_log_at_trx_commit", "innodb_doublewrite", "sync_binlog"),
            *("isolation", "max_allowed_packet", "connections", "engine"),
        },
    }[make_url(sql_url).get_backend_name()]
    assert expected <= set(found)
    for check in ("connection", "tables", "expired sessions", "orphaned chunks"):
        assert found[check]["state"] == "ok", found[check]


@pytest.mark.parametrize(
    "database_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
def test_no_tables(database_url: str) -> None:
    found = doctor(database_url, code=1)
    wrong = found.get("tables") or found["connection"]
    assert wrong["state"] == "problem"
    assert "sqlsessions upgrade" in wrong["seen"]
    assert "expired sessions" not in found


@each_database
def test_nothing_purges(sql_url: str) -> None:
    fill(sql_url, some)
    found = doctor(sql_url)
    for check in ("expired sessions", "orphaned chunks"):
        assert found[check]["state"] == "note"
        assert "sqlsessions purge" in found[check]["advice"]
    assert found["expired sessions"]["seen"].startswith("1 not purged, 14 % of all, 50 bytes")
    assert found["orphaned chunks"]["seen"] == "3 chunks, 2.9 KiB"
    shown = run("doctor", "--url", sql_url).stdout
    assert "No purge seems to run" in shown
    assert "note" in shown.splitlines()[-1]


@each_server
@pytest.mark.parametrize(("skew", "state"), [(0, "ok"), (-3, "note"), (4.0, "note"), (-60, "problem")])
def test_clocks_that_differ(sql_url: str, skew: float, state: str) -> None:
    async def look() -> list[Finding]:
        async with temporary_engine(sql_url) as engine:
            database = Database(engine, TEMPORARY, {})
            plan = Plan(make_url(sql_url))
            clock = lambda: time.time() + skew  # noqa: E731
            found = [finding async for finding in diagnosis.of_database(database, plan, clock)]
            await database.engines.aclose()
            return found

    [clock] = [finding for finding in asyncio.run(look()) if finding.check == "clock"]
    assert clock.state == state
    if skew:
        assert f"{abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} this host's" in clock.seen


@each_server
def test_more_connections_than_the_server_allows(sql_url: str) -> None:
    assert doctor(sql_url)["connections"]["state"] == "ok"
    found = doctor(sql_url, "--pool-size", "100", "--processes", "1000", code=1)["connections"]
    assert found["state"] == "problem"
    assert "up to 100000, 100 for each of 1000 processes, of " in found["seen"]
    assert run("doctor", "--pool-size", "0", "--url", sql_url).exit_code == 2


@postgresql
def test_commits_that_do_not_wait_for_the_disk(sql_url: str) -> None:
    name = make_url(sql_url).database
    asyncio.run(query(sql_url, f"ALTER DATABASE {name} SET synchronous_commit = off"))
    try:
        found = doctor(sql_url, code=1)["synchronous_commit"]
    finally:
        asyncio.run(query(sql_url, f"ALTER DATABASE {name} RESET synchronous_commit"))
    assert (found["state"], found["advice"]) == ("problem", "Set synchronous_commit to on.")


@postgresql
def test_a_database_that_is_read_only(sql_url: str) -> None:
    name = make_url(sql_url).database
    asyncio.run(query(sql_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    try:
        found = doctor(sql_url, code=1)["writable"]
    finally:
        server = make_url(sql_url).set(database="postgres").render_as_string(hide_password=False)
        asyncio.run(query(server, f"ALTER DATABASE {name} RESET default_transaction_read_only"))
    assert found["state"] == "problem"


def test_updates_that_are_not_heap_only() -> None:
    look = diagnosis_postgresql._heap_only
    assert look(10, 0, 100).state is State.OK  # too few to tell
    assert look(5000, 4000, 80).state is State.OK
    bad = look(5000, 100, 100)
    assert bad.state is State.NOTE
    assert "fillfactor = 85" in str(bad.advice)


def test_autovacuum_that_is_behind() -> None:
    values = {"autovacuum_vacuum_threshold": "50", "autovacuum_vacuum_scale_factor": "0.2"}
    look = diagnosis_postgresql._dead_rows
    assert look("sessions", 1000, 400, None, values).state is State.OK
    assert look("sessions", 1000, 600, None, values).state is State.NOTE


@mariadb
def test_a_table_without_transactions(sql_url: str) -> None:
    asyncio.run(query(sql_url, "ALTER TABLE session_chunks ENGINE = MyISAM"))
    try:
        found = doctor(sql_url, code=1)["engine"]
    finally:
        asyncio.run(query(sql_url, "ALTER TABLE session_chunks ENGINE = InnoDB"))
    assert found["seen"] == "session_chunks is MyISAM: no transactions"


def test_settings_of_a_cluster() -> None:
    assert diagnosis_mysql._cluster({"wsrep_sync_wait": "0"}).state is State.NOTE
    assert diagnosis_mysql._cluster({"wsrep_sync_wait": "7"}).state is State.OK
    assert diagnosis_mysql._binary_log({"log_bin": "ON", "sync_binlog": "0"}).state is State.NOTE
    assert diagnosis_mysql._binary_log({"log_bin": "ON", "sync_binlog": "1"}).state is State.OK
    assert diagnosis_mysql._isolation({"tx_isolation": "READ-UNCOMMITTED"}).state is State.PROBLEM
    assert diagnosis_mysql._isolation({"transaction_isolation": "SERIALIZABLE"}).state is State.NOTE


def test_looking_leaves_sqlite_as_it_is(make: Callable[[], str], tmp_path: Path) -> None:
    url, file = make(), tmp_path / "sessions.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = file.read_bytes()
    found = doctor(url, "--thorough", code=0)
    assert found["journal_mode"]["state"] == "note"
    assert found["synchronous"]["state"] == "ok"
    assert found["integrity"]["state"] == "ok"
    for command in ("stats", "list", "current", "check"):
        assert run(command, "--url", url).exit_code == 0
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sessions.db"]


def test_a_damaged_file(make: Callable[[], str], tmp_path: Path) -> None:
    url, file = make(), tmp_path / "sessions.db"
    fill(url, some)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'ix_sessions_expires_bucket'"
        ).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    damaged = bytearray(file.read_bytes())
    damaged[(root - 1) * size : root * size] = b"\x07" * size
    file.write_bytes(damaged)
    found = doctor(url, "--thorough", code=1)
    assert "problem" in {finding["state"] for finding in found.values()}
    assert "Traceback" not in run("doctor", "--thorough", "--url", url).output


def test_a_large_log_and_a_network_file_system(
    make: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(diagnosis_sqlite, "MOUNTS", mounts)
    monkeypatch.setattr(diagnosis_sqlite, "LARGE_WAL", 0)
    fill(url, some)
    with closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as keeper:
        keeper.execute("PRAGMA journal_mode = WAL")
        keeper.execute("DELETE FROM sessions")
        found = doctor(url, code=1)
    assert found["file system"]["state"] == "problem"
    assert found["write-ahead log"]["state"] == "note"


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://somebody:secret@host/name", "sqlite://"])
def test_a_url_that_is_wrong(url: str) -> None:
    result = run("doctor", "--url", url)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_a_server_that_is_away() -> None:
    found = doctor("postgresql+psycopg://somebody:s3cret@127.0.0.1:1/name", code=1)
    assert list(found) == ["connection"]
    assert "refused" in found["connection"]["seen"]
    assert "s3cret" not in json.dumps(found)


def test_many_expired_are_a_problem() -> None:
    clock = ManualClock()
    totals = Totals(10, 10, 1, 0, 5000, 5000, clock.now, None, None, None, 0, [])
    assert diagnosis._expired(totals, clock).state is State.OK
    clock.advance(2 * 24 * 3600)
    assert diagnosis._expired(totals, clock).state is State.PROBLEM
