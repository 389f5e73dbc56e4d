"""`sqlsessions.schema`."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from sqlsessions import (
    InvalidArgument,
    InvalidArgumentType,
    SchemaOutOfDate,
    SqlSessionStorage,
    StorageUnavailable,
    metadata,
    schema,
)
from sqlsessions.schema import revisions as _revisions
from sqlsessions.sql.models import NOTING_TRIGGERS

from .support import OURS, REVISION, VERSION_TABLE, execute, on, parted, table_names


def workers() -> list[threading.Thread]:
    """The threads of aiosqlite."""
    return [thread for thread in threading.enumerate() if "_connection_worker_thread" in thread.name]


async def works(engine: AsyncEngine) -> None:
    """Use the tables."""
    async with SqlSessionStorage(engine) as storage:
        await storage.write_bytes("an id", b"data")
        assert await storage.read_bytes("an id") == b"data"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_by_url(database_url: str) -> None:
    assert await schema.current(database_url) is None
    with pytest.raises(SchemaOutOfDate, match="run `sqlsessions upgrade`"):
        await schema.check(database_url)
    await schema.upgrade(database_url)
    await schema.upgrade(database_url)
    assert await schema.current(database_url) == REVISION
    await schema.check(database_url)
    await schema.downgrade(database_url, "sqlsessions@base")
    assert await schema.current(database_url) is None
    assert not OURS & await table_names(database_url)
    await schema.upgrade(database_url, REVISION)
    await schema.check(database_url)


@pytest.mark.parametrize(
    "url", ["sqlite:///{}", "sqlite:///file:{}?uri=true", "sqlite:///file://{}?uri=true"]
)
async def test_looking_makes_no_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "new.db"
    at = url.format(file)
    assert await schema.current(at) is None
    for look in (schema.check(at), schema.downgrade(at, "base")):
        with pytest.raises(SchemaOutOfDate, match=r"there is no file .*new\.db"):
            await look
    assert names(tmp_path) == []
    await schema.upgrade(at)
    assert names(tmp_path) == ["new.db"]
    await schema.check(at)


@pytest.mark.parametrize("options", [{}, {"isolation_level": "AUTOCOMMIT"}, {"poolclass": NullPool}], ids=str)
async def test_by_engine_which_stays_the_callers(database_url: str, options: dict[str, Any]) -> None:
    engine = create_async_engine(database_url, **options)
    disposed: list[object] = []
    event.listen(engine.sync_engine, "engine_disposed", disposed.append)
    async with engine.connect() as connection:
        level = await connection.get_isolation_level()
    await schema.upgrade(engine)
    await schema.check(engine)
    assert await schema.current(engine) == REVISION
    await works(engine)
    async with engine.connect() as connection:
        assert await connection.get_isolation_level() == level
    assert not disposed
    await engine.dispose()


async def test_in_memory() -> None:
    engine = create_async_engine("sqlite+aiosqlite:///:memory:")
    await schema.upgrade(engine)
    await schema.check(engine)
    await works(engine)
    await engine.dispose()


async def test_an_engine_that_begins_transactions_itself(tmp_path: Any) -> None:
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    await schema.upgrade(engine)
    await schema.check(engine)
    await schema.downgrade(engine, "base")
    await schema.create_tables(engine)
    await schema.check(engine)
    await engine.dispose()


async def test_create_tables(database_url: str) -> None:
    await schema.create_tables(database_url)
    await schema.create_tables(database_url)
    assert await schema.current(database_url) == REVISION
    await schema.check(database_url)
    await schema.upgrade(database_url)
    await schema.check(database_url)


async def test_tables_of_ours_without_a_revision_are_adopted(database_url: str) -> None:
    await on(database_url, metadata.create_all)
    await schema.check(database_url)
    assert await schema.current(database_url) is None
    await schema.upgrade(database_url)
    assert await schema.current(database_url) == REVISION
    await schema.check(database_url)


async def test_ahead(database_url: str) -> None:
    await schema.upgrade(database_url)
    await execute(database_url, f"UPDATE {VERSION_TABLE} SET version_num = 'sqlsessions_9999'")
    for attempt in (
        schema.check(database_url),
        schema.upgrade(database_url),
        schema.downgrade(database_url, "base"),
        schema.create_tables(database_url),
    ):
        with pytest.raises(SchemaOutOfDate, match=r"newer sqlsessions.*9999.*pip install --upgrade"):
            await attempt
    assert await schema.current(database_url) == "sqlsessions_9999"


async def test_behind(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await schema.upgrade(database_url)
    monkeypatch.setattr(_revisions, "_revisions", lambda: ["sqlsessions_0006", REVISION])
    for attempt in (schema.check(database_url), schema.create_tables(database_url)):
        with pytest.raises(SchemaOutOfDate, match=f"behind, at revision {REVISION}.*sqlsessions upgrade"):
            await attempt


@pytest.mark.parametrize("table", sorted(OURS))
async def test_somebody_elses_table(database_url: str, table: str) -> None:
    await execute(database_url, f"CREATE TABLE {table} (id INTEGER, data INTEGER)")
    for attempt in (
        schema.check(database_url),
        schema.upgrade(database_url),
        schema.create_tables(database_url),
    ):
        with pytest.raises(SchemaOutOfDate, match=f"'{table}' of .* is not one of sqlsessions"):
            await attempt
    assert await table_names(database_url) == {table}


async def test_incomplete(database_url: str) -> None:
    await schema.upgrade(database_url)
    await execute(database_url, "DROP TABLE session_chunks")
    with pytest.raises(SchemaOutOfDate, match=f"without session_chunks, although marked as {REVISION}"):
        await schema.check(database_url)
    await execute(database_url, f"DROP TABLE {VERSION_TABLE}")
    with pytest.raises(SchemaOutOfDate, match="without session_chunks: run `sqlsessions upgrade`"):
        await schema.check(database_url)
    await schema.upgrade(database_url)
    await schema.check(database_url)
    await execute(database_url, "ALTER TABLE sessions DROP COLUMN ttl")
    with pytest.raises(SchemaOutOfDate, match=r"without sessions\.ttl"):
        await schema.check(database_url)


async def test_a_revision_that_is_none(database_url: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot upgrade to revision 'nope'"):
        await schema.upgrade(database_url, "nope")
    with pytest.raises(InvalidArgument, match="cannot downgrade to revision '-1'"):
        await schema.downgrade(database_url, "-1")
    assert not OURS & await table_names(database_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://somebody:secret@127.0.0.1:1/name",
        "postgresql+psycopg://somebody:secret@127.0.0.1:1/name",
        "mysql+asyncmy://somebody:secret@127.0.0.1:1/name",
        "mysql+aiomysql://somebody:secret@127.0.0.1:1/name",
        "sqlite+aiosqlite:////no/such/folder/secret.db",
    ],
)
async def test_unreachable(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    engine = create_async_engine(url)
    for target in (url, engine):
        for function in (schema.upgrade, schema.check, schema.current, schema.create_tables):
            with pytest.raises(StorageUnavailable) as caught:
                await function(target)
            assert caught.value.__cause__ is not None
            assert "secret" not in str(caught.value) + caplog.text
    await engine.dispose()
    # aiosqlite does not wait for the thread of a connection of the caller's engine that failed to open.
    for thread in workers():
        await asyncio.to_thread(thread.join)


async def test_a_database_that_does_not_open_leaves_no_thread_behind() -> None:
    with pytest.raises(StorageUnavailable):
        await schema.check("sqlite:////no/such/folder/a.db")
    assert not workers()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", InvalidArgument),
        ("not a url", InvalidArgument),
        ("oracle://somebody:secret@host/name", InvalidArgument),
        ("postgresql+psycopg2://somebody:secret@host/name", InvalidArgument),
        ("postgresql+asyncpg://somebody:secret@127.0.0.1/name?sslmod=1", InvalidArgument),
        ("mysql+asyncmy://somebody:secret@127.0.0.1/name?frob=1", InvalidArgument),
        (None, InvalidArgumentType),
        (object(), InvalidArgumentType),
    ],
)
async def test_a_target_that_is_none(url: Any, error: type[Exception]) -> None:
    for function in (schema.upgrade, schema.check, schema.current, schema.create_tables):
        with pytest.raises(error) as caught:
            await function(url)
        assert "secret" not in str(caught.value)


async def test_script_makes_what_upgrade_makes(database_url: str) -> None:
    await execute(database_url, *parted(await schema.script(database_url)))
    assert await schema.current(database_url) == REVISION
    await schema.check(database_url)


@pytest.mark.parametrize("database_url", ["mysql+asyncmy", "MySQL+asyncmy"], indirect=True)
async def test_the_command_line_client_takes_the_script(database_url: str) -> None:
    """The semicolons in a trigger end none of its statements."""
    if not (client := shutil.which("mariadb") or shutil.which("mysql")):
        pytest.skip("there is no client of MariaDB or MySQL")
    url = make_url(database_url)
    where = ["-h", str(url.host), "-P", str(url.port or 3306), "-u", str(url.username), str(url.database)]
    process = await asyncio.create_subprocess_exec(
        client,
        *where,
        env=os.environ | {"MYSQL_PWD": str(url.password or "")},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, errors = await process.communicate((await schema.script(url)).encode())
    assert (process.returncode, errors) == (0, b"")
    assert await schema.current(url) == REVISION
    await schema.check(url)
    found = await on(database_url, lambda connection: connection.exec_driver_sql("SHOW TRIGGERS").all())
    assert sorted(each[0] for each in found) == sorted(NOTING_TRIGGERS)


async def test_rights_are_missing(tmp_path: Any) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")

    @event.listens_for(engine.sync_engine, "connect")
    def read_only(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    with pytest.raises(StorageUnavailable):
        await schema.upgrade(engine)
    assert await schema.current(engine) is None
    await engine.dispose()


def test_include_name() -> None:
    names = (*OURS, VERSION_TABLE, "users", "alembic_version", None)
    parents = {"schema_name": None}
    kept = [name for name in names if schema.include_name(name, "table", parents)]
    assert kept == ["users", "alembic_version", None]
    assert not schema.include_name("sessions", "table", {"schema_name": "tenant"})
    assert schema.include_name("users", "table", {"schema_name": "tenant"})
    assert schema.include_name("sessions", "schema", {})
    assert schema.include_name("sessions", "column", {"schema_name": None, "table_name": "users"})


def test_importing_it_leaves_alembic_alone() -> None:
    code = "import sys, sqlsessions.schema; sys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
