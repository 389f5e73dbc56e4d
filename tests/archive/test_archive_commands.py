"""`sqlsessions export` and `sqlsessions import`, as installed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sqlsessions import SqlSessionStorage, schema
from sqlsessions._commands import app

PROGRAM = "from sqlsessions.cli import main; main()"


def run(*arguments: str, **options: Any) -> Result:
    result = CliRunner().invoke(app, arguments, **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def make(url: str, number: int = 3) -> None:
    await schema.upgrade(url)
    async with SqlSessionStorage(url, synchronous="NORMAL") as storage:
        await asyncio.gather(*(storage.write_bytes(f"id {each}", b"x" * 3000) for each in range(number)))
        await storage.write_bytes("large", b"y" * 300_000)


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    """A database with sessions, and an empty one."""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("from", "to")]
    asyncio.run(make(urls[0]))
    asyncio.run(schema.upgrade(urls[1]))
    return urls


def test_there_and_back(urls: list[str], tmp_path: Path) -> None:
    file = str(tmp_path / "archive")
    exported = run("export", file, "--url", urls[0])
    assert (exported.exit_code, exported.stderr) == (0, "")
    assert exported.stdout.startswith("exported 4 sessions, 309,000 bytes of data\ndigest ")
    digest = exported.stdout.split()[-1]
    imported = run("import", file, "--digest", digest, "--url", urls[1])
    assert (imported.exit_code, imported.stderr) == (0, "")
    assert imported.stdout.startswith("imported 4 sessions, 309,000 bytes of data\n")
    again = run("import", file, "--url", urls[1])
    assert again.stdout.splitlines()[:2] == [
        "imported 0 sessions, 0 bytes of data",
        "4 were in the database already",
    ]
    assert run("export", str(tmp_path / "b"), "--url", urls[1]).stdout == exported.stdout


def test_through_a_pipe(urls: list[str]) -> None:
    exported = run("export", "-", "--url", urls[0])
    assert exported.exit_code == 0
    assert exported.stderr.startswith("exported 4 sessions")
    imported = run("import", "-", "--url", urls[1], input=exported.stdout_bytes)
    assert imported.stdout.startswith("imported 4 sessions")


def test_what_is_wrong_is_one_line(urls: list[str], tmp_path: Path) -> None:
    file = tmp_path / "archive"
    assert run("export", str(file), "--url", urls[0]).exit_code == 0
    whole = file.read_bytes()
    damaged, cut, none, partial = (tmp_path / name for name in ("damaged", "cut", "none", "new.partial"))
    damaged.write_bytes(whole[:5000] + b"?" + whole[5001:])
    cut.write_bytes(whole[:-1])
    none.write_bytes(b"something else")
    partial.write_bytes(b"")
    wrong = {
        ("export", str(file)): (2, "--force"),
        ("export", str(tmp_path / "new")): (2, "--resume"),
        ("export", str(tmp_path / "no" / "folder")): (1, "No such file"),
        ("import", str(tmp_path / "missing")): (1, "No such file"),
        ("import", str(damaged)): (1, "damaged, or was changed"),
        ("import", str(cut)): (1, "cut short"),
        ("import", str(none)): (1, "no archive"),
        ("import", str(file), "--digest", "00"): (1, "another digest"),
    }
    for arguments, (code, what) in wrong.items():
        result = run(*arguments, "--url", urls[1])
        assert (result.exit_code, result.stdout) == (code, ""), arguments
        assert result.stderr.startswith("sqlsessions: ")
        assert result.stderr.count("\n") == 1
        assert what in result.stderr
    assert run("export", str(tmp_path / "to"), "--url", urls[1]).stdout.startswith("exported 0 sessions")


@pytest.mark.parametrize("command", ["export", "import"])
async def test_killed_and_gone_on_with(tmp_path: Path, command: str) -> None:
    one, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("from", "to"))
    await make(one, 6000)
    await schema.upgrade(other)
    file = str(tmp_path / "archive")
    if command == "import":
        assert (await finished("export", file, "--url", one))[0] == 0
    url = one if command == "export" else other
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, command, file, "--url", url)
    async with asyncio.timeout(30), SqlSessionStorage(other) as storage:
        partial = tmp_path / "archive.partial"
        while process.returncode is None:
            if command == "export" and partial.exists() and partial.stat().st_size > 2_000_000:
                break
            if command == "import" and len([info async for info in storage.sessions()]) > 500:
                break
            await asyncio.sleep(0.001)
    assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    again = ["--resume"] if command == "export" else []
    code, output = await finished(command, file, *again, "--url", url)
    assert code == 0
    if command == "export":
        assert output.startswith("exported 6,001 sessions")
        assert (await finished("import", file, "--url", other))[0] == 0
    _, here = await finished("export", str(tmp_path / "here"), "--url", one)
    _, there = await finished("export", str(tmp_path / "there"), "--url", other)
    assert here == there
    assert here.startswith("exported 6,001 sessions")


async def finished(*arguments: str) -> tuple[int | None, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments, stdout=pipe)
    output, _ = await process.communicate()
    return process.returncode, output.decode()
