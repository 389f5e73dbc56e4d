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

from sqlsessions import EncryptedStorage, SqlSessionStorage, schema
from sqlsessions.layers.ciphertext import KeyRing
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
from sqlsessions.sql.diagnosis.base import encrypted
from sqlsessions.sql.diagnosis.doctor import Finding, Plan, State
from sqlsessions.sql.diagnosis.security import ENCRYPTED, HEADER
from sqlsessions.sql.diagnosis.statistics import Totals
from sqlsessions.sql.engine.database import Database
from sqlsessions.sql.engine.temporary import TEMPORARY, temporary_engine
from sqlsessions.testing import ManualClock

from ..sql.support import TINY, age, each_database, each_server, mariadb, postgresql, query
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
        "sqlite": {"journal_mode", "synchronous", "file", "file mode", "write-ahead log", "free pages"},
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
    asyncio.run(age(sql_url, 2 * 86_400))
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


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg"], indirect=True)
def test_the_schema_that_is_looked_at(database_url: str) -> None:
    """Its tables, and none of the same name in others."""
    asyncio.run(query(database_url, "CREATE SCHEMA own"))
    own = f"{database_url}?schema=own"
    for url in (database_url, own):
        asyncio.run(schema.upgrade(url))
    asyncio.run(query(database_url, "DROP TRIGGER sqlsessions_notify_update ON own.sessions"))
    assert "notices" not in doctor(database_url)
    assert doctor(own)["notices"]["state"] == "note"
    found = doctor(f"{database_url}?options=-csearch_path=missing,public", code=1)["tables"]
    assert "no schema 'missing'" in found["seen"]


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


@each_database
def test_security(sql_url: str) -> None:
    found = doctor(sql_url, "--security")
    assert (found["lifetimes"]["state"], found["encryption"]["seen"]) == ("ok", "no live sessions")
    if "sqlite" in sql_url:
        assert found["directory"]["state"] == "ok"
    else:  # these servers are on this host, and their user is the administrator
        assert (found["TLS"]["state"], found["privileges"]["state"]) == ("ok", "problem")

    async def services() -> None:
        key, other = [b"1" * 32], [b"2" * 32]
        async with SqlSessionStorage(sql_url, max_age=100, **TINY) as storage:
            await EncryptedStorage(storage, key).write_bytes("small", b"data")
            await EncryptedStorage(storage, key).write_bytes("large", b"data" * 100)
        looked.append(await asyncio.to_thread(doctor, sql_url, "--security"))
        async with SqlSessionStorage(sql_url, namespace="shop", **TINY) as storage:
            await EncryptedStorage(storage, other).write_bytes("id", b"data")
            looked.append(await asyncio.to_thread(doctor, sql_url, "--security"))
            await storage.write_bytes("plain", b"data", ttl=None)
        looked.append(await asyncio.to_thread(doctor, sql_url, "--security"))

    looked: list[dict[str, dict[str, Any]]] = []
    asyncio.run(services())
    states = [
        [each[check]["state"] for each in looked] for check in ("encryption", "lifetimes", "namespaces")
    ]
    assert states == [["ok", "note", "problem"], ["ok", "note", "note"], ["ok", "note", "note"]]
    assert "2 under key " in looked[0]["encryption"]["seen"]
    assert looked[1]["lifetimes"]["seen"].startswith("1 of 3 sessions live on")
    assert looked[2]["lifetimes"]["seen"] == "1 of 4 sessions never expire"
    assert "1 not encrypted" in looked[2]["encryption"]["seen"]
    assert looked[2]["namespaces"]["seen"] == "1, and sessions of none"


@pytest.mark.parametrize(
    ("grants", "state"),
    [
        (
            ["GRANT USAGE ON *.* TO `a`@`%`", "GRANT SELECT, INSERT, UPDATE, DELETE ON `s`.* TO `a`@`%`"],
            State.OK,
        ),
        (["GRANT SELECT, CREATE ON `s`.* TO `a`@`%`"], State.NOTE),
        (["GRANT ALL PRIVILEGES ON `s`.* TO `a`@`%`"], State.NOTE),
        (["GRANT `role` TO `a`@`%`", "GRANT SELECT, CREATE USER ON *.* TO `a`@`%`"], State.PROBLEM),
    ],
)
def test_grants_of_mysql(grants: list[str], state: State) -> None:
    assert diagnosis_mysql.privileges_of(grants).state is state


def test_a_connection_over_a_network_needs_tls() -> None:
    states = [encrypted(*each, local=local).state for each, local in ((("TLSv1.3",), False), ((None,), True))]
    assert states == [State.OK, State.OK]
    assert encrypted(None, local=False).state is State.PROBLEM


def test_what_is_encrypted_begins_as_the_diagnosis_expects() -> None:
    ring = KeyRing([b"1" * 32])
    for stored in (ring.seal(b"data", b"x" * 32), ring.begin(b"x" * 32)[0]):
        match = ENCRYPTED.match(stored[:HEADER])
        assert match
        assert match[1] == stored[4:12]


def test_others_may_replace_a_file(make: Callable[[], str], tmp_path: Path) -> None:
    url = make()
    tmp_path.chmod(0o777)
    assert doctor(url, "--security")["directory"]["state"] == "problem"
    tmp_path.chmod(0o1777)
    assert doctor(url, "--security")["directory"]["state"] == "ok"


def test_many_expired_are_a_problem() -> None:
    clock = ManualClock()
    totals = Totals(10, 10, 1, 0, 5000, 5000, clock.now, None, None, None, 0, [])
    assert diagnosis._expired(totals, clock).state is State.OK
    clock.advance(2 * 24 * 3600)
    assert diagnosis._expired(totals, clock).state is State.PROBLEM


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((0, 0.0, True), [State.NOTE]),
        ((2, 0.0, True), [State.NOTE]),
        ((3, 0.5, True), [State.NOTE]),
        ((3, 0.0, True), [State.OK]),
        ((3, 0.0, False), []),
    ],
)
def test_notices_of_postgresql(seen: tuple[int, float, bool], expected: list[State]) -> None:
    assert [finding.state for finding in diagnosis_postgresql._notices(*seen)] == expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((1, 0, 0, 1), [State.NOTE]),
        ((0, 2, 0, 1), [State.NOTE]),
        ((2, 0, 200_000, 1), [State.NOTE]),
        ((2, 0, 0, 1), [State.OK]),
        ((2, 0, None, 0), []),
    ],
)
def test_notices_of_mysql(seen: tuple[int, int, int | None, int], expected: list[State]) -> None:
    assert [finding.state for finding in diagnosis_mysql._notices(*seen)] == expected


@pytest.mark.parametrize("sql_url", ["mysql+asyncmy", "mysql+aiomysql"], indirect=True)
def test_tables_that_leave_no_notices(sql_url: str) -> None:
    assert "notices" not in doctor(sql_url)  # as nobody polls
    polled = "INSERT INTO session_chunks (version, id, seq, data) VALUES (0, unhex(repeat('00', 32)), -6, '')"
    asyncio.run(query(sql_url, polled))
    assert doctor(sql_url)["notices"]["state"] == "ok"


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "postgresql+psycopg"], indirect=True)
def test_tables_that_send_no_notices(sql_url: str) -> None:
    assert "notices" not in doctor(sql_url)  # as nobody listens
    disabled = "ALTER TABLE sessions {} TRIGGER sqlsessions_notify_delete"
    asyncio.run(query(sql_url, disabled.format("DISABLE")))
    try:
        assert doctor(sql_url)["notices"]["state"] == "note"
    finally:
        asyncio.run(query(sql_url, disabled.format("ENABLE")))
