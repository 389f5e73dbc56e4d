"""Tables that are upgraded while a service runs: it warns once it has noticed."""

from __future__ import annotations

import gc
import logging
from unittest.mock import AsyncMock
from weakref import ref

import pytest

from sqlsessions import SchemaOutOfDate, SqlSessionStorage, schema
from sqlsessions.schema.revisions import _revisions
from sqlsessions.sql.engine import revision
from sqlsessions.sql.engine.revision import RevisionWatch
from sqlsessions.sql.models import REVISIONS, VERSION_TABLE

from .buses import until
from .support import query, quiet

NEWER = "the tables are of a newer sqlsessions (revision sqlsessions_9999)"
every_database = pytest.mark.parametrize(
    "database_url",
    ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "MySQL+asyncmy"],
    indirect=True,
)


async def mark(url: str, name: str) -> None:
    await query(url, f"UPDATE {VERSION_TABLE} SET version_num = :name", name=name)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if (each.name, each.levelno) == ("sqlsessions", logging.WARNING)
    ]


def test_the_revisions_are_those_that_there_are() -> None:
    assert list(REVISIONS) == _revisions()[::-1]


@every_database
async def test_an_upgrade_while_a_service_runs_is_noticed(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "FIRST", 0.0)
    monkeypatch.setattr(revision, "AGAIN", 0.01)
    await schema.upgrade(database_url)
    async with SqlSessionStorage(database_url) as storage:
        await storage.write_bytes("id", b"data")
        looks = 0
        look = storage._database.revision.look

        def count() -> None:
            nonlocal looks
            looks += 1
            look()

        async def noticed(number: int) -> bool:
            return len(warnings(caplog)) >= number

        async def looked() -> bool:
            return looks >= 3

        monkeypatch.setattr(storage._database.revision, "look", count)
        await until(looked)
        assert warnings(caplog) == []
        await mark(database_url, "sqlsessions_9999")
        await until(lambda: noticed(1))
        looks = 0
        await until(looked)
        await mark(database_url, REVISIONS[0])
        await until(lambda: noticed(2))
        assert await storage.read_bytes("id") == b"data"  # it goes on with what it knows
    first, second = warnings(caplog)
    assert first.startswith(NEWER)
    assert second.startswith(f"the tables are behind, at revision {REVISIONS[0]}, where")


@every_database
async def test_an_error_of_the_tables_has_the_revision_looked_at_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await schema.upgrade(database_url)
    async with SqlSessionStorage(database_url) as storage:
        await storage.write_bytes("id", b"data")
        await mark(database_url, "sqlsessions_9999")
        await query(database_url, "ALTER TABLE sessions RENAME COLUMN version TO generation")
        for _ in range(3):
            with pytest.raises(SchemaOutOfDate):
                await storage.read_bytes("id")
            with pytest.raises(SchemaOutOfDate):
                await storage.rotate("id", "new")
        await quiet(storage)
    assert [each for each in warnings(caplog) if each.startswith(NEWER)] == warnings(caplog)[:1]


@every_database
async def test_nothing_is_said_where_the_application_has_the_tables_in_its_own_history(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await schema.upgrade(database_url)
    await query(database_url, f"DROP TABLE {VERSION_TABLE}")
    async with SqlSessionStorage(database_url) as storage:
        await storage.write_bytes("id", b"data")
        storage._database.revision.look()
        await quiet(storage)
        assert await storage.read_bytes("id") == b"data"
    assert warnings(caplog) == []


async def test_a_timer_keeps_no_storage_that_was_not_closed() -> None:
    engines = SqlSessionStorage("sqlite://")._database.engines
    watch, state = RevisionWatch(engines, AsyncMock()), engines.state()
    watch.begin(state)
    kept, timer = ref(watch), state.timer
    del watch, state, engines
    gc.collect()
    assert timer is not None
    assert kept() is None
    timer.cancel()
