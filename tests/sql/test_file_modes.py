"""The files of SQLite that we make are their owner's alone, in whatever umask."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sqlsessions import SchemaOutOfDate, SqlSessionStorage, schema

from ..commands.support import run


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o177])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(directory: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}


@pytest.mark.usefixtures("umask")
async def test_files_that_an_upgrade_makes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    await schema.upgrade(url)
    async with SqlSessionStorage(url) as storage:
        await storage.write_bytes("id", b"data")
        names = ["sessions.db", "sessions.db-shm", "sessions.db-wal"]
        assert modes(tmp_path) == dict.fromkeys(names, 0o600)


@pytest.mark.usefixtures("umask")
async def test_a_file_that_a_service_makes_by_mistake(tmp_path: Path) -> None:
    async with SqlSessionStorage(f"sqlite:///{tmp_path / 'sessions.db'}") as storage:
        with pytest.raises(SchemaOutOfDate):
            await storage.write_bytes("id", b"data")
        assert set(modes(tmp_path).values()) == {0o600}


async def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    with closing(sqlite3.connect(file)):
        file.touch()
    file.chmod(0o640)
    await schema.upgrade(f"sqlite:///{file}")
    assert modes(tmp_path)["sessions.db"] == 0o640


def test_the_doctor_looks_at_modes(tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    run("upgrade", "--url", f"sqlite:///{file}")
    shown = run("doctor", "--url", f"sqlite:///{file}").stdout
    assert "other users of this host have no access" in shown
    file.chmod(0o604)
    shown = " ".join(run("doctor", "--url", f"sqlite:///{file}").stdout.split())
    assert "every user of this host may use sessions.db" in shown
