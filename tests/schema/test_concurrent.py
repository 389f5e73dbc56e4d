"""Upgrades at the same time, and upgrades that were cut off."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SchemaOutOfDate, schema

from ..databases import SERVED_BY, NetworkServer, available
from .support import OURS, REVISION, VERSION_TABLE, dialect, python, table_names

# Ready processes wait for a line, so that all of them start at once.
UPGRADE = """
import asyncio, sys
from alembic import command
from sqlsessions import schema
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(schema.upgrade(sys.argv[1]))
"""


# What a database's lock is worth on engines where it is none.
UPGRADE_WITHOUT_LOCK = """
from contextlib import contextmanager
from sqlsessions.sql.dialects import DIALECTS

@contextmanager
def none(connection, *, joined):
    yield

for dialect in DIALECTS.values():
    dialect.migration_lock = none
"""


VERSIONED = rf"INSERT INTO (public\.)?{VERSION_TABLE}"


class CutOff(Exception):
    """Stands for a process that dies."""


def test_processes_take_turns(database_url: str) -> None:
    upgrade_at_once(UPGRADE, database_url)


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
def test_processes_do_no_damage_without_a_lock(database_url: str) -> None:
    upgrade_at_once(UPGRADE_WITHOUT_LOCK + UPGRADE, database_url)


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
async def test_an_upgrade_that_another_one_overtakes_is_tried_again(database_url: str) -> None:
    await schema.upgrade(database_url, "sqlsessions_0002")
    server = available(SERVED_BY[make_url(database_url).drivername])
    assert isinstance(server, NetworkServer)
    overtaken: list[str] = []

    def overtake(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if "UPDATE" in sql and VERSION_TABLE in sql and not overtaken:
            overtaken.append(sql)
            server.execute(
                make_url(database_url), f"UPDATE {VERSION_TABLE} SET version_num = 'sqlsessions_0003'"
            )

    engine = create_async_engine(database_url)
    event.listen(engine.sync_engine, "before_cursor_execute", overtake)
    await schema.upgrade(engine)
    assert overtaken
    await schema.check(engine)
    assert await schema.current(engine) == REVISION
    await engine.dispose()


def upgrade_at_once(program: str, database_url: str) -> None:
    processes = [python(program, database_url) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    asyncio.run(schema.check(database_url))
    assert asyncio.run(schema.current(database_url)) == REVISION


async def test_tasks_and_threads_take_turns(database_url: str) -> None:
    def upgrade() -> None:
        asyncio.run(schema.upgrade(database_url))

    await asyncio.gather(
        *(schema.upgrade(database_url) for _ in range(3)),
        *(asyncio.to_thread(upgrade) for _ in range(3)),
        *(schema.script(database_url) for _ in range(3)),
    )
    await schema.check(database_url)


@pytest.mark.parametrize("statement", ["CREATE INDEX", "CREATE TABLE session_chunks", VERSIONED])
async def test_an_upgrade_that_was_cut_off_is_finished_by_the_next(database_url: str, statement: str) -> None:
    def cut_off(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if re.match(rf"\s*{statement}", sql):
            raise CutOff

    engine = create_async_engine(database_url)
    event.listen(engine.sync_engine, "before_cursor_execute", cut_off)
    with pytest.raises(CutOff):
        await schema.upgrade(engine)
    event.remove(engine.sync_engine, "before_cursor_execute", cut_off)
    if dialect(database_url) == "mysql":
        assert "sessions" in await table_names(database_url)
        if statement != VERSIONED:
            with pytest.raises(SchemaOutOfDate, match="incomplete"):
                await schema.check(engine)
    else:
        assert not await table_names(database_url)
    await schema.upgrade(engine)
    await schema.check(engine)
    await schema.downgrade(engine, "sqlsessions@base")
    assert not OURS & await table_names(database_url)
    await engine.dispose()


async def test_a_cancelled_upgrade_leaves_no_lock(database_url: str) -> None:
    engine = create_async_engine(database_url)
    task: asyncio.Task[None]

    def cancel(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if "CREATE TABLE session_chunks" in sql:
            task.cancel()

    event.listen(engine.sync_engine, "before_cursor_execute", cancel)
    task = asyncio.create_task(schema.upgrade(engine))
    with pytest.raises(asyncio.CancelledError):
        await task
    event.remove(engine.sync_engine, "before_cursor_execute", cancel)
    await asyncio.to_thread(asyncio.run, schema.upgrade(database_url))
    await schema.check(engine)
    await engine.dispose()
