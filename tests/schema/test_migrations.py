"""The migrations, run by Alembic from a checkout."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import metadata
from sqlsessions.sql.models import REVISIONS

from .support import (
    NOTICES,
    OURS,
    ROOT,
    VERSION_TABLE,
    checkout,
    dialect,
    execute,
    file_url,
    on,
    table_names,
    tables,
)


def test_up_down_up(database_url: str) -> None:
    config = checkout(database_url)
    command.upgrade(config, "head")
    assert asyncio.run(table_names(database_url)) - NOTICES == OURS | {VERSION_TABLE}
    command.downgrade(config, "base")
    assert asyncio.run(table_names(database_url)) == {VERSION_TABLE}
    command.upgrade(config, "sqlsessions@head")
    command.upgrade(config, "head")
    command.check(config)


def test_tables_are_those_of_the_models_and_others_are_nobodys_drift(database_url: str) -> None:
    asyncio.run(execute(database_url, "CREATE TABLE theirs (id INTEGER)"))
    command.upgrade(checkout(database_url), "head")
    command.check(checkout(database_url))
    asyncio.run(execute(database_url, "ALTER TABLE sessions ADD COLUMN extra INTEGER"))
    with pytest.raises(CommandError, match="extra"):
        command.check(checkout(database_url))


def described(connection: Connection) -> dict[str, Any]:
    """Of each of our tables what the code of the version before counts on: columns, and what must be unique."""
    found = inspect(connection)
    return {
        name: (
            {each["name"]: (str(each["type"]), each["nullable"]) for each in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            [each["column_names"] for each in found.get_unique_constraints(name)]
            + [each["column_names"] for each in found.get_indexes(name) if each["unique"]],
        )
        for name in found.get_table_names()
        if name in OURS | NOTICES
    }


def test_the_code_of_the_version_before_runs_on_the_tables_of_each(database_url: str) -> None:
    before: dict[str, Any] = {}
    for revision in REVISIONS:
        command.upgrade(checkout(database_url), revision)
        after = asyncio.run(on(database_url, described))
        for table, (columns, *unique) in before.items():
            now, *unique_now = after[table]
            assert {name: now.get(name) for name in columns} == columns
            assert all(nullable for name, (_, nullable) in now.items() if name not in columns)
            assert unique_now == unique
        before = after


def test_what_alembic_does_not_compare_is_as_in_the_models_too(database_url: str) -> None:
    ours = "('sessions', 'session_chunks', 'session_labels', 'session_ends', 'session_notices')"
    queries = {
        "sqlite": [f"SELECT name, tbl_name, type FROM sqlite_master WHERE tbl_name IN {ours} ORDER BY name"],
        "postgresql": [
            "SELECT reloptions FROM pg_class WHERE relname = 'sessions'",
            f"""SELECT relname, attname, attstorage, attcollation, attnotnull
                FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
                WHERE attnum > 0 AND relname IN {ours} ORDER BY relname, attnum""",
        ],
        "mysql": [
            f"""SELECT table_name, column_name, column_type, collation_name, is_nullable, column_key, extra
                FROM information_schema.columns
                WHERE table_schema = DATABASE() AND table_name IN {ours}
                ORDER BY table_name, ordinal_position""",
            f"""SELECT table_name, engine FROM information_schema.tables
                WHERE table_schema = DATABASE() AND table_name IN {ours} ORDER BY table_name""",
            """SELECT trigger_name, event_manipulation, action_timing, action_statement
                FROM information_schema.triggers WHERE trigger_schema = DATABASE() ORDER BY trigger_name""",
        ],
    }[dialect(database_url)]

    def look(connection: Connection) -> list[object]:
        return [[tuple(row) for row in connection.execute(text(query))] for query in queries]

    command.upgrade(checkout(database_url), "head")
    migrated = asyncio.run(on(database_url, look))
    command.downgrade(checkout(database_url), "base")
    asyncio.run(on(database_url, metadata.create_all))
    assert migrated == asyncio.run(on(database_url, look))


def test_a_url_needs_no_driver(database_url: str) -> None:
    bare = make_url(database_url).set(drivername=dialect(database_url))
    command.upgrade(checkout(bare.render_as_string(hide_password=False)), "head")
    assert asyncio.run(table_names(database_url)) >= OURS


def test_where_the_url_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_option, by_variable, by_file = (tmp_path / name for name in ("option", "variable", "file"))
    monkeypatch.setenv("SQLSESSIONS_URL", file_url(by_variable))
    config = checkout(file_url(by_option))
    config.set_main_option("sqlalchemy.url", file_url(by_file))
    command.upgrade(config, "head")
    assert by_option.exists()
    assert not by_variable.exists()
    config.cmd_opts = None
    command.upgrade(config, "head")
    assert by_variable.exists()
    assert not by_file.exists()
    monkeypatch.delenv("SQLSESSIONS_URL")
    command.upgrade(config, "head")
    assert by_file.exists()


@pytest.mark.parametrize(
    ("url", "message"), [(None, "which database"), ("oracle://host/name", "unknown scheme 'oracle'")]
)
def test_a_url_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str | None, message: str) -> None:
    monkeypatch.delenv("SQLSESSIONS_URL", raising=False)
    for offline in (False, True):
        with pytest.raises(CommandError, match=message):
            command.upgrade(checkout(url), "head", sql=offline)


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mysql", "mariadb+asyncmy"])
def test_offline(name: str) -> None:
    output = io.StringIO()
    url = "sqlite:///name" if name == "sqlite" else f"{name}://host/name"
    command.upgrade(checkout(url, output_buffer=output), "head", sql=True)
    sql = output.getvalue()
    for expected in ("CREATE TABLE sessions", "CREATE TABLE session_chunks", f"CREATE TABLE {VERSION_TABLE}"):
        assert expected in sql
    assert ("fillfactor" in sql, "STORAGE EXTERNAL" in sql) == (name == "postgresql",) * 2
    assert ("LONGBLOB" in sql) == name.startswith(("mysql", "mariadb"))
    assert ("BEGIN" in sql) == name.startswith(("sqlite", "postgresql"))


def test_offline_sql_runs(tmp_path: Path) -> None:
    output = io.StringIO()
    command.upgrade(checkout("sqlite://", output_buffer=output), "head", sql=True)
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    connection.executescript(output.getvalue())
    connection.close()
    command.check(checkout(file_url(tmp_path / "new.db")))


async def test_a_connection_in_a_transaction_is_joined(database_url: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = checkout()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        await connection.begin()
        await connection.run_sync(upgrade)
        await connection.rollback()
        if dialect(database_url) != "mysql":  # which has no transactional DDL
            assert not await table_names(database_url)
        await connection.begin()
        await connection.run_sync(upgrade)
        await connection.commit()
    assert await table_names(database_url) >= OURS
    await engine.dispose()


def test_a_foreign_table_is_refused(database_url: str) -> None:
    asyncio.run(execute(database_url, "CREATE TABLE sessions (id INTEGER)"))
    with pytest.raises(CommandError, match="'sessions' of this database is not one of sqlsessions"):
        command.upgrade(checkout(database_url), "head")
    assert "session_chunks" not in asyncio.run(table_names(database_url))


def test_logging_stays_the_hosts(tmp_path: Path) -> None:
    root, ours = logging.getLogger(), logging.getLogger("a.library.of.the.host")
    before = (root.level, list(root.handlers), logging.getLogger("alembic").handlers, ours.disabled)
    command.upgrade(checkout(file_url(tmp_path / "a.db")), "head")
    assert (root.level, list(root.handlers), logging.getLogger("alembic").handlers, ours.disabled) == before


def test_revisions_import_nothing_of_ours() -> None:
    for file in (ROOT / "migrations" / "versions").glob("sqlsessions_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert node.level == 0
            else:
                continue
            assert not [name for name in names if name.startswith("sqlsessions")], file.name


def test_a_new_revision_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    url = file_url(tmp_path / "a.db")
    command.upgrade(checkout(url), "head")
    config = checkout(url)
    versions = f"{ROOT / 'migrations' / 'versions'}:{tmp_path / 'versions'}"
    config.set_main_option("version_locations", versions)
    command.revision(
        config, "more", rev_id="sqlsessions_0006", version_path=str(tmp_path / "versions"), autogenerate=True
    )
    assert (tmp_path / "versions" / "sqlsessions_0006_more.py").exists()
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert tables(tmp_path / "a.db") == {VERSION_TABLE}
