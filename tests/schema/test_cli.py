"""The ``sqlsessions`` command."""

from __future__ import annotations

import asyncio
import subprocess
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sqlsessions import StorageUnavailable, schema
from sqlsessions._commands import app

from .support import OURS, REVISION, VERSION_TABLE, execute, file_url, python, table_names


@pytest.fixture(autouse=True)
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQLSESSIONS_URL", raising=False)


def run(*arguments: str, **environment: str) -> Result:
    """Run the command in this process."""
    result = CliRunner().invoke(app, arguments, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


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
    assert asyncio.run(table_names(database_url)) == OURS | {VERSION_TABLE}


def test_what_is_wrong_goes_to_stderr_in_one_line(tmp_path: Path) -> None:
    url = file_url(tmp_path / "a.db")
    result = run("check", "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
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
    url = f"{name}://somebody:secret@127.0.0.1:1/name"
    result = run("sql", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == asyncio.run(schema.script(url))
    assert "CREATE TABLE sessions" in result.stdout


def test_help_tells_the_exit_codes() -> None:
    assert "Exit codes" in run("--help").stdout
    for command in ("upgrade", "current", "check", "sql"):
        assert command in run("--help").stdout
        assert "Exit codes" in run(command, "--help").stdout
        assert "SQLSESSIONS_URL" in run(command, "--help").stdout


def test_as_installed(tmp_path: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "sqlsessions"
    url = file_url(tmp_path / "a.db")
    for arguments, code in ((["check"], 1), (["upgrade"], 0), (["check"], 0), (["frobnicate"], 2)):
        command = [str(script), *arguments, *(["--url", url] if code != 2 else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_without_typer() -> None:
    process = python("import sys; sys.modules['typer'] = None; from sqlsessions.cli import main; main()")
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors == 'the command line needs typer: pip install "sqlsessions[cli]"\n'
