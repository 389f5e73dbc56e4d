"""Every command as it is installed: in a terminal of 80 columns, piped, interrupted, completed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from rich.cells import cell_len

from sqlsessions import SqlSessionStorage, StorageUnavailable
from sqlsessions._commands import COMMANDS, common, name_of
from sqlsessions.sql.engine import temporary
from sqlsessions.testing import ManualClock

from .support import SCRIPT, fill, in_terminal, run, some

NAMES = [name_of(command) for command in chain(*COMMANDS.values())]
COLOURS = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
GONE = "postgresql+psycopg://somebody:s3cret@127.0.0.1:1/name"


def fits(shown: str, width: int = 80) -> None:
    lines = ANSI.sub("", shown).split("\n")
    assert max(cell_len(line) for line in lines) <= width
    assert "Traceback" not in shown


async def long_subject(storage: SqlSessionStorage, clock: ManualClock) -> None:
    await some(storage, clock)
    await storage.write_bytes("of somebody", b"", subject="somebody with a rather long name, at home")


@pytest.mark.parametrize("arguments", [[], *([name] for name in NAMES)], ids=str)
def test_help_fits(arguments: list[str]) -> None:
    shown = run(*arguments, "--help", TERMINAL_WIDTH="", COLUMNS="80").stdout
    fits(shown)
    assert "\x1b" not in shown


def test_output_fits(make: Callable[[], str]) -> None:
    url = make()
    fill(url, long_subject)
    for arguments in (["upgrade"], ["current"], ["check"], ["list"], ["show", "large"]):
        code, shown = in_terminal(*arguments, SQLSESSIONS_URL=url)
        assert code == 0, shown
        fits(shown)
    for arguments in (["stats"], ["doctor", "--thorough"]):
        code, shown = in_terminal(*arguments, SQLSESSIONS_URL=url)
        assert code == 0, shown
        fits(shown)
        assert COLOURS.search(shown)
    _, plain = in_terminal("stats", SQLSESSIONS_URL=url, NO_COLOR="1")
    assert not COLOURS.search(plain)


def test_what_is_piped_has_no_colours_and_fits(make: Callable[[], str]) -> None:
    url = make()
    fill(url, long_subject)
    for arguments in (["list"], ["show", "large"], ["stats"], ["doctor"], ["check"]):
        shown = run(*arguments, "--url", url).stdout
        assert "\x1b" not in shown
        fits(shown)


def test_errors_are_one_sentence(make: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "no database.db").write_bytes(b"not a database" * 1000)
    empty = tmp_path / "empty.db"
    empty.touch()
    for url in (GONE, f"sqlite:///{tmp_path}", f"sqlite:///{tmp_path}/no database.db", f"sqlite:///{empty}"):
        for arguments in (["list"], ["stats"], ["show", "id"], ["revoke", "--subject", "alice"], ["check"]):
            result = run(*arguments, "--url", url)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert result.stderr.startswith("sqlsessions: ")
            assert "s3cret" not in result.stderr
    for name in ("missing.db", "no/missing.db"):
        for arguments in (["list"], ["stats"], ["show", "id"], ["revoke", "--key", "0" * 64]):
            result = run(*arguments, "--url", f"sqlite:///{tmp_path}/{name}")
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
            assert ("there is no file" in result.stderr) == (name == "missing.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "no database.db"]


@pytest.mark.parametrize("arguments", [["list"], ["stats"], ["revoke", "--subject", "alice"]], ids=str)
def test_a_locked_file(
    arguments: list[str], make: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make()
    fill(url, some)
    impatient = replace(temporary.TEMPORARY, busy_timeout=0.05, retry_for=0.1)
    monkeypatch.setattr(temporary, "TEMPORARY", impatient)
    monkeypatch.setattr(common, "TEMPORARY", impatient)
    with closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        result = run(*arguments, "--url", url)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "locked" in result.stderr
    assert run("list", "--json", "--url", url).stdout.count("\n") == 6


@pytest.fixture
def heeds_interruptions() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interruptions")
def test_interrupted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://somebody@127.0.0.1:{silent.getsockname()[1]}/name"
        with subprocess.Popen([SCRIPT, "list", "--url", url], stderr=subprocess.PIPE) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
            assert process.stderr
            # asyncpg may leave a future of its handshake behind, which asyncio then reports.
            assert b"sqlsessions:" not in process.stderr.read()
            connection.close()


@pytest.mark.usefixtures("heeds_interruptions")
def test_an_interruption_of_which_a_driver_makes_an_error() -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise StorageUnavailable("the connection was lost") from None

    with pytest.raises(KeyboardInterrupt):
        common.run(work(), "sqlite:///sessions.db")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    words = {
        "bash": {"COMP_WORDS": "sqlsessions st", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "sqlsessions st"},
        "fish": {"_TYPER_COMPLETE_ARGS": "sqlsessions st", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    given = os.environ | {"_SQLSESSIONS_COMPLETE": f"complete_{shell}"} | words
    done = subprocess.run([SCRIPT], env=given, capture_output=True, text=True, check=False)
    assert "stats" in done.stdout
    assert "Traceback" not in done.stderr
    assert "list" not in done.stdout


def test_version() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"sqlsessions {version('sqlsessions')}\n"


HOSTILE = "a\x1b[2J\x9b1m\u202eb\u2066"


def test_nothing_that_is_shown_controls_the_terminal(make: Callable[[], str]) -> None:
    url = make()

    async def hostile(storage: SqlSessionStorage, clock: ManualClock) -> None:
        await storage.write_bytes("id", HOSTILE.encode() + b"\xff\nnext", subject=HOSTILE)

    fill(url, hostile)
    listed = run("list", "--json", "--url", url).stdout
    assert json.loads(listed)["subject"] == HOSTILE
    code, raw = in_terminal("show", "id", "--raw", SQLSESSIONS_URL=url)
    assert (code, raw) == (0, "a\\x1b[2J\\x9b1m\\u202eb\\u2066\\xff\nnext")
    shown = (listed, run("stats", "--json", "--url", url).stdout, run("list", "--url", url).stdout)
    for text in shown:
        assert not set(text) & set("\x1b\x9b\u202e\u2066")
    piped = run("show", "id", "--raw", "--url", url).stdout_bytes
    assert piped == HOSTILE.encode() + b"\xff\nnext"
