"""What the commands do with sessions that have ended, and about one subject: ``list --ended``, ``export``, ``erase``."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import EncryptedStorage, SqlSessionStorage
from sqlsessions.testing import ManualClock
from sqlsessions.testing._ended import CLIENT

from ..sql.support import each_database, query
from .support import fill, in_terminal, run

KEPT = timedelta(days=90)
BINARY = b"\xff" * 3000
KEY = base64.b64encode(b"k" * 32).decode()


async def ends(storage: SqlSessionStorage, clock: ManualClock) -> None:
    """Live, expired and ended sessions, with records as of a service that keeps them."""
    async with SqlSessionStorage(storage.engine, clock=clock, keep_ended=KEPT) as service:
        await service.write_bytes("gone", b"", subject="alice", client=CLIENT)
        await service.write_bytes("bob's, gone", b"", subject="bob")
        clock.advance(60)
        await service.invalidate("gone")
        clock.advance(1)
        await service.revoke("bob")
        await service.write_bytes(
            "phone", '{"cart": "é"}'.encode(), subject="alice", client=CLIENT, labels=["a"]
        )
        await service.write_bytes("laptop", BINARY, subject="alice")
        await service.write_bytes("expired", b"private", subject="alice", ttl=10)
        await service.write_bytes("bob's", b"", subject="bob")
        clock.advance(20)


def lines(url: str, *options: str) -> list[dict[str, Any]]:
    result = run("list", "--ended", "--json", "--url", url, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


@each_database
def test_list_ended(sql_url: str) -> None:
    empty = run("list", "--ended", "--url", sql_url)
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "No ended sessions are kept.\n")
    fill(sql_url, ends)
    [bobs, alices] = lines(sql_url)
    assert (bobs["subject"], bobs["reason"], bobs["client"]) == ("bob", "revoked", None)
    assert list(alices) == ["key", "reason", "subject", "ended_at", "created_at", "used_at", "client"]
    assert (alices["reason"], alices["client"]) == ("ended", CLIENT)
    assert alices["created_at"] == alices["used_at"] < alices["ended_at"]
    assert lines(sql_url, "--subject", "alice") == [alices]
    shown = run("list", "--ended", "--url", sql_url).stdout.splitlines()
    assert shown[1].split() == ["SUBJECT", "REASON", "ENDED", "CREATED", "USED"]
    assert shown[2::2][:2] == [bobs["key"], alices["key"]]
    assert shown[5].split() == [
        "alice",
        "ended",
        *["47", "hours", "ago", "47", "hours", "ago", "47", "hours", "ago"],
    ]
    assert shown[6].strip().startswith("192.0.2.7, ")
    one = run("list", "--ended", "--limit", "1", "--url", sql_url)
    assert one.stdout.splitlines() == shown[:4]
    assert one.stderr == "These are the last 1; --limit 0 lists all.\n"
    assert run("list", "--ended", "--label", "a", "--url", sql_url).exit_code == 2


def test_subjects_of_records_cannot_steer_the_terminal(make: Callable[[], str]) -> None:
    async def work(storage: SqlSessionStorage, clock: ManualClock) -> None:
        async with SqlSessionStorage(storage.engine, clock=clock, keep_ended=KEPT) as service:
            for subject in ("l" * 255, "\x1b[2Jx\n"):
                await service.write_bytes("id", b"", subject=subject, client={"address": "\x1b"})
                await service.invalidate("id")

    url = make()
    fill(url, work)
    shown = run("list", "--ended", "--url", url).stdout
    assert "\x1b" not in shown
    assert "l" * 255 in shown


@each_database
def test_what_a_command_ends_has_a_record_if_the_service_keeps_some(sql_url: str) -> None:
    fill(sql_url, ends)
    assert run("revoke", "--subject", "bob", "--url", sql_url).stdout == "ended 1 session\n"
    assert [each["reason"] for each in lines(sql_url, "--subject", "bob")] == ["revoked"] * 2
    run("purge", "--url", sql_url)
    assert [each["reason"] for each in lines(sql_url, "--subject", "alice")] == ["expired", "ended"]


@each_database
def test_export_of_a_subject(sql_url: str, tmp_path: Path) -> None:
    fill(sql_url, ends)
    file = tmp_path / "alice.json"
    result = run("export", str(file), "--subject", "alice", "--url", sql_url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "exported 2 sessions, 1 record of ended ones\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = json.loads(file.read_text())
    assert list(found) == ["subject", "exported_at", "sessions", "ended"]
    assert found["subject"] == "alice"
    laptop, phone = sorted(found["sessions"], key=lambda each: str(each["client"] is not None))
    assert base64.b64decode(laptop["data_base64"]) == BINARY
    assert (phone["data"], phone["client"], phone["labels"]) == ('{"cart": "é"}', CLIENT, ["a"])
    assert found["ended"] == lines(sql_url, "--subject", "alice")
    assert run("export", str(file), "--subject", "alice", "--url", sql_url).exit_code == 1
    again = run("export", str(file), "--subject", "nobody", "--force", "--url", sql_url)
    assert again.stdout == "exported 0 sessions, 0 records of ended ones\n"
    assert json.loads(file.read_text())["sessions"] == []
    piped = run("export", "-", "--subject", "alice", "--url", sql_url)
    assert len(json.loads(piped.stdout)["sessions"]) == 2
    assert piped.stderr == result.stdout


def test_what_does_not_go_together_is_refused(tmp_path: Path, make: Callable[[], str]) -> None:
    file, url = str(tmp_path / "file"), make()
    for options in (["--subject", "a", "--resume"], ["--namespace", "shop"], ["--keys-file", file]):
        result = run("export", file, "--url", url, *options)
        assert result.exit_code == 2
        assert "--subject" in result.stderr
    assert run("export", file, "--url", url, "--subject", "").exit_code == 2
    assert run("erase", "--url", url).exit_code == 2


@pytest.mark.parametrize("hides", [False, True])
def test_what_is_encrypted_takes_the_keys(make: Callable[[], str], tmp_path: Path, hides: bool) -> None:
    url, file, keys = make(), tmp_path / "ann.json", tmp_path / "keys"
    keys.write_text(KEY)

    async def write() -> None:
        kept = SqlSessionStorage(url, keep_ended=KEPT, namespace="shop")
        async with EncryptedStorage(kept, [KEY], encrypt_subjects=hides) as storage:
            for id in ("id", "gone"):
                await storage.write_bytes(id, b"data of ann", subject="ann")
            await storage.invalidate("gone")

    asyncio.run(write())
    options = ["--subject", "ann", "--namespace", "shop", "--url", url]
    plain = run("export", str(file), *options)
    if hides:
        assert plain.stdout == "exported 0 sessions, 0 records of ended ones\n"
        file.unlink()
    else:
        assert plain.exit_code == 1
        assert plain.stderr.startswith("sqlsessions: the data is encrypted: give the keys")
        assert not file.exists()
    assert run("export", str(file), *options, SQLSESSIONS_KEYS=KEY).exit_code == 0
    found = json.loads(file.read_text())
    assert [each["data"] for each in found["sessions"]] == ["data of ann"]
    assert [each["subject"] for each in found["sessions"] + found["ended"]] == ["ann"] * 2
    erased = run("erase", *options, "--yes", "--keys-file", str(keys))
    assert erased.stdout == "ended 1 session, deleted 1 record of ended ones\n"
    assert lines(url, "--namespace", "shop") == []


@each_database
def test_erase(sql_url: str) -> None:
    fill(sql_url, ends)
    refused = run("erase", "--subject", "alice", "--url", sql_url)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    result = run("erase", "--subject", "alice", "--yes", "--url", sql_url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ended 2 sessions, deleted 1 record of ended ones\n"
    for table in ("sessions", "session_ends"):
        assert set(asyncio.run(query(sql_url, f"SELECT subject FROM {table}"))) == {("bob",)}
    again = run("erase", "--subject", "alice", "--url", sql_url)  # which asks nothing
    assert again.stdout == "ended 0 sessions, deleted 0 records of ended ones\n"


def test_erase_asks_on_a_terminal(make: Callable[[], str]) -> None:
    url = make()
    fill(url, ends)
    code, shown = in_terminal("erase", "--subject", "alice", "--url", url, answer="n\n")
    assert code == 1
    assert "End 2 sessions of alice, and delete 1 record of ended ones? [y/N]: " in shown
    assert len(lines(url, "--subject", "alice")) == 1
    code, shown = in_terminal("erase", "--subject", "alice", "--url", url, answer="y\n")
    assert code == 0
    assert "ended 2 sessions, deleted 1 record of ended ones" in shown
