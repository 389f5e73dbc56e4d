"""The commands for the tables, and what goes for every command."""

from __future__ import annotations

import asyncio
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from sqlsessions import StorageUnavailable, schema
from sqlsessions._commands import COMMANDS

from ..schema.support import NOTICES, OURS, REVISION, VERSION_TABLE, execute, file_url, python, table_names
from .support import SCRIPT, in_terminal, run


def test_from_nothing_to_up_to_date(database_url: str) -> None:
    url = ("--url", database_url)
    assert run("current", *url).output == "none\n"
    assert run("check", *url).exit_code == 1
    upgraded = run("upgrade", *url)
    assert (upgraded.exit_code, upgraded.stderr) == (0, "")
    assert REVISION in upgraded.stdout
    assert run("upgrade", *url).exit_code == 0
    assert run("current", *url).output == f"{REVISION}\n"
    assert run("check", *url).exit_code == 0
    assert asyncio.run(table_names(database_url)) - NOTICES == OURS | {VERSION_TABLE}


def test_what_is_wrong_goes_to_stderr_in_one_line(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    result = run("check", "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("sqlsessions: there is no file")
    assert result.stderr.count("\n") == 1
    (tmp_path / "a.db").touch()
    result = run("check", "--url", url)
    assert result.stderr == "sqlsessions: the database has no session tables: run `sqlsessions upgrade`\n"
    asyncio.run(schema.upgrade(url))
    asyncio.run(execute(url, f"UPDATE {VERSION_TABLE} SET version_num = 'sqlsessions_9999'"))
    for command in ("check", "upgrade"):
        result = run(command, "--url", url)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert "newer sqlsessions" in result.stderr


@pytest.mark.parametrize("command", ["upgrade", "current", "check"])
def test_unreachable(command: str) -> None:
    url = "postgresql+psycopg://somebody:secret@127.0.0.1:1/name"
    result = run(command, "--url", url)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "refused" in result.stderr
    assert "secret" not in result.stderr


def test_a_password_in_the_drivers_words_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_url: str) -> None:
        raise StorageUnavailable("no") from OSError("cannot connect as a:s3cret@host")

    monkeypatch.setattr(schema, "check", fail)
    result = run("check", "--url", "postgresql://a:s3cret@host/name")
    assert result.stderr == "sqlsessions: no: cannot connect as a:***@host\n"


@pytest.mark.parametrize("command", ["upgrade", "current", "check", "sql"])
@pytest.mark.parametrize("url", ["", "nonsense", "oracle://somebody:secret@host/name"])
def test_a_url_that_is_wrong(command: str, url: str) -> None:
    result = run(command, "--url", url)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "secret" not in result.stderr


def test_no_url() -> None:
    result = run("upgrade")
    assert result.exit_code == 2
    assert "SQLSESSIONS_URL" in result.stderr


def test_the_url_of_the_environment(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    assert run("upgrade", SQLSESSIONS_URL=url).exit_code == 0
    asyncio.run(schema.check(url))
    other = file_url(tmp_path / "b.db")
    assert run("upgrade", "--url", other, SQLSESSIONS_URL=url).exit_code == 0
    asyncio.run(schema.check(other))


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_sql(name: str) -> None:
    url = "sqlite:///name" if name == "sqlite" else f"{name}://somebody:secret@127.0.0.1:1/name"
    result = run("sql", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == asyncio.run(schema.script(url))
    assert "CREATE TABLE sessions" in result.stdout


def test_help_tells_the_exit_codes() -> None:
    assert "Exit code" in run("--help").stdout
    for command in chain(*COMMANDS.values()):
        name = command.__name__.rstrip("_").replace("_", "-")
        assert f"│ {name} " in run("--help").stdout
        assert "Exit codes" in run(name, "--help").stdout
        assert ("SQLSESSIONS_URL" in run(name, "--help").stdout) != (name == "new-key")


def test_as_installed(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    for arguments, code in ((["check"], 1), (["upgrade"], 0), (["check"], 0), (["frobnicate"], 2)):
        command = [SCRIPT, *arguments, *(["--url", url] if code != 2 else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_drivers_say_nothing_of_their_own(database_url: str) -> None:
    command = [SCRIPT, "upgrade", "--url", database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_typer() -> None:
    process = python("import sys; sys.modules['typer'] = None; from sqlsessions.cli import main; main()")
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors == 'the command line needs typer: pip install "sqlsessions[cli]"\n'


def test_downgrade(database_url: str) -> None:
    url = ("--url", database_url)
    assert run("upgrade", *url).exit_code == 0
    refused = run("downgrade", "base", *url)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == "sqlsessions: cannot ask for confirmation without a terminal: give --yes\n"
    assert run("check", *url).exit_code == 0
    done = run("downgrade", "base", "--yes", *url)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the tables are at revision none\n", "")
    assert not OURS & asyncio.run(table_names(database_url))


def test_downgrade_asks_on_a_terminal(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    asyncio.run(schema.upgrade(url))
    code, shown = in_terminal("downgrade", "base", "--url", url, answer="n\n")
    assert code == 1
    assert "Aborted" in shown
    asyncio.run(schema.check(url))
    code, shown = in_terminal("downgrade", "base", "--url", url, answer="y\n")
    assert (code, asyncio.run(schema.current(url))) == (0, None), shown


def test_downgrade_to_what_is_no_revision(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    asyncio.run(schema.upgrade(url))
    result = run("downgrade", "nonsense", "--yes", "--url", url)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    asyncio.run(schema.check(url))
