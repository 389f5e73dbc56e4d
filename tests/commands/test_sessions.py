"""The commands ``list``, ``show`` and ``revoke``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import stat
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from sqlsessions import SqlSessionStorage
from sqlsessions.sql.internals import keys_from
from sqlsessions.testing import ManualClock

from ..sql.support import each_database
from .support import SCRIPT, fill, in_terminal, run, some


def key(id: str) -> str:
    return hashlib.sha256(id.encode()).hexdigest()


def listed(url: str, *options: str) -> list[str]:
    """The keys of a list."""
    result = run("list", "--json", "--url", url, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line)["key"] for line in result.stdout.splitlines()]


ALICES = [key(f"alice {number}") for number in (2, 1, 0)]
EVERYBODY = {*ALICES, key("large"), key("spaces"), key("forever")}


@each_database
def test_list(sql_url: str) -> None:
    empty = run("list", "--url", sql_url)
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "There are no live sessions.\n")
    fill(sql_url, some)
    assert set(listed(sql_url)) == EVERYBODY
    assert listed(sql_url, "--subject", "alice") == ALICES  # the newest first
    assert listed(sql_url, "--subject", "nobody") == []
    lines = run("list", "--subject", "alice", "--url", sql_url).stdout.splitlines()
    assert lines[2::2] == ALICES
    assert lines[3].split() == [
        "alice",
        "2",
        "bytes",
        "47",
        "hours",
        "ago",
        "47",
        "hours",
        "ago",
        "in",
        "12",
        "days",
    ]
    assert lines[1].split() == ["SUBJECT", "SIZE", "CREATED", "WRITTEN", "EXPIRES"]
    forever = run("list", "--url", sql_url).stdout.partition(key("forever"))[2].splitlines()[1]
    assert forever.endswith("never")


def test_a_list_is_limited(tmp_path: Path, make: Callable[[], str]) -> None:
    async def many(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for number in range(120):
            await storage.write_bytes(str(number), b"")

    url = make()
    fill(url, many)
    result = run("list", "--json", "--url", url)
    assert result.stdout.count("\n") == 100
    assert result.stderr == "These are the first 100; --limit 0 lists all.\n"
    assert len(listed(url, "--limit", "0")) == 120
    assert len(listed(url, "--limit", "120")) == 120
    assert run("list", "--limit", "-1", "--url", url).exit_code == 2


def test_subjects_cannot_steer_the_terminal_and_stay_whole(make: Callable[[], str]) -> None:
    long, evil, wide = "l" * 255, "\x1b[2Jx\n", "漢" * 20

    async def work(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for subject in (long, evil, wide):
            await storage.write_bytes(subject, b"", subject=subject)

    url = make()
    fill(url, work)
    shown = run("list", "--url", url).stdout
    assert "\x1b" not in shown
    assert {f"  {long}", f"  {wide}"} <= set(shown.splitlines())
    assert "\\x1b[2Jx\\n" in shown
    assert "\x1b" not in run("show", evil, "--url", url).stdout + run("stats", "--url", url).stdout


@each_database
def test_show(sql_url: str) -> None:
    fill(sql_url, some)
    url = ("--url", sql_url)
    facts = dict(line.split(maxsplit=1) for line in run("show", ALICES[0], *url).stdout.splitlines())
    assert (facts["key"], facts["subject"], facts["size"]) == (ALICES[0], "alice", "2 bytes")
    assert facts["created"].endswith(" UTC, 47 hours ago")
    assert run("show", ALICES[0].upper(), *url).stdout == run("show", "alice 2", *url).stdout
    for given in ([], ["-"]):
        for ending in (b"", b"\n", b"\r\n"):
            assert key("large") in run("show", *given, *url, input=b"large" + ending).stdout
    assert "3 KiB" not in run("show", *url, input=b"alice 2").stdout


def test_show_by_the_beginning_of_a_key(make: Callable[[], str]) -> None:
    url = make()
    whole = key("large")
    same = next(f"id {number}" for number in count() if key(f"id {number}")[:2] == whole[:2])
    hexadecimal = "abcdef" * 4  # an id of another library, say, that is no key's beginning

    async def written(storage: SqlSessionStorage, clock: ManualClock) -> None:
        for id in ("large", same, hexadecimal):
            await storage.write_bytes(id, b"1", ttl=None)

    fill(url, written)
    shown = run("show", whole[:6].upper(), "--url", url)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"key      {whole}\n" in shown.stdout
    assert "size     1 byte\n" in shown.stdout
    assert key(hexadecimal) in run("show", hexadecimal, "--url", url).stdout
    for unknown in ("0" * 6, "f" * 63, whole[:5]):
        result = run("show", unknown, "--url", url)
        assert (result.exit_code, result.stderr) == (1, "sqlsessions: no live session has this id\n")


async def test_keys_that_begin_alike() -> None:
    async with SqlSessionStorage("sqlite://") as storage:
        keys = [(await storage.write_bytes(f"id {number}", b"")).key for number in range(40)]
        for length in (1, 2, 3, 64):
            for prefix in {each[:length] for each in keys}:
                assert await keys_from(storage, prefix) == sorted(e for e in keys if e.startswith(prefix))
        assert await keys_from(storage, "0" * 64) == []


@each_database
def test_show_the_data(sql_url: str, tmp_path: Path) -> None:
    fill(sql_url, some)
    for id, data in (("large", b"new" * 1000), ("alice 2", b"aa"), ("spaces", b"")):
        assert run("show", id, "--raw", "--url", sql_url).stdout_bytes == data
        file = tmp_path / f"of {id}"
        result = run("show", key(id), "--output", str(file), "--url", sql_url)
        assert (result.exit_code, result.stdout) == (0, "")
        assert file.read_bytes() == data
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@each_database
def test_what_is_not_there_cannot_be_shown(sql_url: str) -> None:
    fill(sql_url, some)
    for given, what in (("expired", "id"), (key("expired"), "key"), ("0" * 64, "key"), ("secret", "id")):
        for options in ([], ["--raw"]):
            result = run("show", given, *options, "--url", sql_url)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == f"sqlsessions: no live session has this {what}\n"


def test_an_id_that_looks_like_a_key_is_read_from_standard_input(make: Callable[[], str]) -> None:
    id = key("anything")

    async def work(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        await storage.write_bytes(id, b"data")

    url = make()
    fill(url, work)
    assert run("show", id, "--url", url).exit_code == 1
    assert key(id) in run("show", "--url", url, input=id.encode()).stdout
    assert key(id) in run("show", key(id), "--url", url).stdout


@pytest.mark.parametrize("id", [b"", b"\n", b"\xff", b"x" * 4097])
def test_what_can_be_no_id(id: bytes, make: Callable[[], str]) -> None:
    result = run("show", "--url", make(), input=id)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_a_file_is_written_whole_or_not_at_all(make: Callable[[], str], tmp_path: Path) -> None:
    url = make()
    fill(url, some)
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "data"
    file.write_bytes(b"mine")
    refused = run("show", "large", "--output", str(file), "--url", url)
    assert (refused.exit_code, file.read_bytes()) == (1, b"mine")
    assert "--force" in refused.stderr
    missing = run("show", "nothing", "--output", str(file), "--force", "--url", url)
    assert (missing.exit_code, file.read_bytes()) == (1, b"mine")

    async def lose_a_chunk(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        async with storage.engine.begin() as connection:
            await connection.exec_driver_sql("DELETE FROM session_chunks WHERE seq = 2")

    fill(url, lose_a_chunk)
    broken = run("show", "large", "--output", str(file), "--force", "--url", url)
    assert (broken.exit_code, broken.stderr.count("\n"), file.read_bytes()) == (1, 1, b"mine")
    assert [path.name for path in folder.iterdir()] == ["data"]
    replaced = run("show", "alice 2", "--output", str(file), "--force", "--url", url)
    assert (replaced.exit_code, file.read_bytes()) == (0, b"aa")
    assert [path.name for path in folder.iterdir()] == ["data"]
    nowhere = run("show", "alice 2", "--output", str(folder / "no" / "data"), "--url", url)
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (1, 1)


def test_options_that_exclude_each_other(make: Callable[[], str]) -> None:
    url = make()
    for arguments in (
        ["show", "x", "--raw", "--output", "x"],
        ["show", "x", "--force"],
        ["revoke"],
        ["revoke", "--subject", "alice", "--key", "0" * 64],
        ["revoke", "--key", "0" * 63],
        ["revoke", "--key", "x" * 64],
        ["revoke", "--subject", ""],
    ):
        assert run(*arguments, "--url", url).exit_code == 2


@each_database
def test_revoke(sql_url: str) -> None:
    fill(sql_url, some)
    url = ("--url", sql_url)
    assert run("revoke", "--key", key("large"), *url).stdout == "ended 1 session\n"
    assert run("revoke", "--key", key("large"), *url).stdout == "ended 0 sessions\n"
    assert run("revoke", "--subject", "alice", *url).stdout == "ended 3 sessions\n"
    nobody = run("revoke", "--subject", "alice", *url)
    assert (nobody.exit_code, nobody.stdout) == (0, "ended 0 sessions\n")
    assert set(listed(sql_url)) == {key("spaces"), key("forever")}


def test_revoke_asks_on_a_terminal(make: Callable[[], str]) -> None:
    url = make()
    fill(url, some)
    command = ["revoke", "--subject", "alice", "--url", url]
    code, shown = in_terminal(*command, answer="n\n")
    assert code == 1
    assert "End 3 sessions of alice? [y/N]" in shown
    assert len(listed(url, "--subject", "alice")) == 3
    code, shown = in_terminal(*command, "--yes")
    assert (code, shown) == (0, "ended 3 sessions\n")
    code, shown = in_terminal("revoke", "--key", key("large"), "--url", url)
    assert (code, shown) == (0, "ended 1 session\n")


@each_database
def test_revoke_many(sql_url: str) -> None:
    fill(sql_url, some)
    url = ("--url", sql_url)
    assert run("revoke", "--subject-prefix", "alice", "--yes", *url).stdout == "ended 4 sessions\n"
    assert set(listed(sql_url)) == {key("large"), key("forever")}
    assert run("revoke", "--before", "2001-01-31T12:00:00", "--yes", *url).stdout == "ended 0 sessions\n"
    assert (
        run("revoke", "--before", "2999-01-31", "--subject-prefix", "b", "--yes", *url).stdout
        == "ended 1 session\n"
    )
    assert run("revoke", "--all", "--yes", *url).stdout == "ended 1 session\n"
    assert listed(sql_url) == []


def test_revoke_all_takes_batches(make: Callable[[], str]) -> None:
    async def many(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for number in range(600):
            await storage.write_bytes(f"id {number}", b"")

    url = make()
    fill(url, many)
    assert run("revoke", "--all", "--yes", "--url", url).stdout == "ended 600 sessions\n"
    assert listed(url) == []


def test_revoke_many_is_confirmed(make: Callable[[], str]) -> None:
    url = make()
    fill(url, some)
    result = run("revoke", "--all", "--url", url)
    assert result.exit_code == 2
    assert "give --yes" in result.stderr
    code, shown = in_terminal("revoke", "--all", "--url", url, answer="n\n")
    assert code == 1
    assert "End 6 sessions? [y/N]" in shown
    assert len(listed(url)) == 6


def test_the_prompt_does_not_show_the_id(make: Callable[[], str]) -> None:
    url = make()
    fill(url, some)
    code, shown = in_terminal("show", "--url", url, answer="alice 2\n")
    assert code == 0
    assert "Session id:" in shown
    assert "alice 2" not in shown
    assert ALICES[0] in shown


def test_whoever_reads_no_further_ends_the_command_quietly(make: Callable[[], str]) -> None:
    async def many(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        for number in range(1200):
            await storage.write_bytes(str(number), b"")
        await storage.write_bytes("large", bytes(1_000_000))

    url = make()
    fill(url, many)
    for arguments in (["list", "--limit", "0"], ["show", "large", "--raw"]):
        with subprocess.Popen(
            [SCRIPT, *arguments, "--url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.read(10)
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=60) == 1


def test_a_namespace_is_listed_shown_and_revoked_by_itself(make: Callable[[], str]) -> None:
    url = make()

    async def fill_both() -> None:
        for namespace in (None, "shop"):
            async with SqlSessionStorage(url, namespace=namespace) as storage:
                await storage.write_bytes("id", f"of {namespace}".encode(), subject="ann")

    asyncio.run(fill_both())
    shop = ["--namespace", "shop"]
    of_none, of_shop = listed(url), listed(url, *shop)
    assert len(of_none) == len(of_shop) == 1
    assert of_none != of_shop
    shown = [run("show", of_shop[0], "--url", url, "--raw", *options) for options in (shop, [])]
    assert [each.exit_code for each in shown] == [0, 1]
    assert shown[0].stdout == "of shop"
    assert run("show", "-", "--url", url, "--raw", *shop, input=b"id").stdout == "of shop"
    assert run("revoke", "--url", url, "--subject", "ann", *shop).stdout == "ended 1 session\n"
    assert [len(listed(url, *options)) for options in ([], shop)] == [1, 0]
    assert run("revoke", "--url", url, "--key", of_none[0], *shop).stdout == "ended 0 sessions\n"


@each_database
def test_labels_and_clients(sql_url: str) -> None:
    async def work(storage: SqlSessionStorage, _clock: ManualClock) -> None:
        client = {"address": "192.0.2.7", "user_agent": "Tests/1\x1b[2J"}
        await storage.write_bytes("one", b"", subject="alice", labels=["sid:1", "tenant:7"], client=client)
        await storage.write_bytes("two", b"", subject="bob", labels=["tenant:7"])
        await storage.write_bytes("none", b"")

    fill(sql_url, work)
    url = ("--url", sql_url)
    assert listed(sql_url, "--label", "tenant:7") == sorted([key("one"), key("two")])
    shown = run("list", "--label", "sid:1", *url).stdout
    assert "\n  sid:1, tenant:7\n  192.0.2.7, Tests/1\\x1b[2J\n" in shown
    facts = dict(line.split(maxsplit=1) for line in run("show", key("one"), *url).stdout.splitlines())
    assert (facts["labels"], facts["address"]) == ("sid:1, tenant:7", "192.0.2.7")
    assert "used" in facts
    [line] = run("list", "--label", "sid:1", "--json", *url).stdout.splitlines()
    values = json.loads(line)
    assert (values["labels"], values["client"]["address"]) == (["sid:1", "tenant:7"], "192.0.2.7")
    assert values["used_at"] == values["updated_at"]
    assert run("list", "--label", "a", "--subject", "alice", *url).exit_code == 2
    assert run("revoke", "--label", "a", "--subject", "alice", *url).exit_code == 2
    assert run("list", "--label", "none", *url).stderr == "There are no live sessions with this label.\n"
    assert run("revoke", "--label", "sid:1", *url).stdout == "ended 1 session\n"
    assert run("revoke", "--label", "tenant:7", *url).stdout == "ended 1 session\n"
    assert listed(sql_url) == [key("none")]
