"""An application with Alembic migrations of its own, beside ours and around ours."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from sqlsessions import schema

from .support import NOTICES, OURS, execute, table_names

ENV = """
import asyncio

from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import sqlsessions.schema

theirs = MetaData()
Table("users", theirs, Column("id", Integer, primary_key=True))


def run(connection):
    context.configure(connection=connection, OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    engine = create_async_engine(context.config.attributes["their_url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
"""
MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
'''


class Host:
    """The application's folder."""

    def __init__(self, folder: Path, url: str, options: str, *locations: str) -> None:
        self.url = url
        (folder / "versions").mkdir()
        (folder / "env.py").write_text(ENV.replace("OPTIONS", options))
        (folder / "script.py.mako").write_text(MAKO)
        ini = "[alembic]\nscript_location = %(here)s\npath_separator = newline\nversion_locations =\n"
        ini += "".join(f"    {each}\n" for each in ("%(here)s/versions", *locations))
        (folder / "alembic.ini").write_text(ini)
        self.folder = folder

    def alembic(self, name: str, *arguments: Any, **options: Any) -> None:
        config = Config(str(self.folder / "alembic.ini"))
        config.attributes["their_url"] = self.url
        getattr(command, name)(config, *arguments, **options)

    def autogenerate(self) -> str:
        self.alembic(
            "revision",
            "theirs",
            rev_id="theirs_1",
            head="base",
            autogenerate=True,
            version_path=str(self.folder / "versions"),
        )
        return (self.folder / "versions" / "theirs_1_theirs.py").read_text()

    def tables(self) -> set[str]:
        return asyncio.run(table_names(self.url))


def test_our_history_among_theirs(tmp_path: Path, database_url: str) -> None:
    options = "target_metadata=theirs, include_name=sqlsessions.schema.include_name"
    host = Host(tmp_path, database_url, options, "sqlsessions.migrations:versions")
    host.alembic("upgrade", "heads")
    assert host.tables() - NOTICES == OURS | {"alembic_version"}
    asyncio.run(schema.check(database_url))
    generated = host.autogenerate()
    assert "users" in generated
    assert "session" not in generated
    host.alembic("upgrade", "heads")
    assert host.tables() - NOTICES == OURS | {"alembic_version", "users"}
    host.alembic("check")
    # Whoever upgrades our way later finds everything there.
    asyncio.run(schema.upgrade(database_url))
    host.alembic("check")
    host.alembic("downgrade", "sqlsessions@base")
    assert not (OURS | NOTICES) & host.tables()


def test_they_own_the_tables(tmp_path: Path, database_url: str) -> None:
    host = Host(tmp_path, database_url, "target_metadata=[theirs, sqlsessions.metadata]")
    generated = host.autogenerate()
    assert all(f"'{table}'" in generated for table in OURS | {"users"})
    host.alembic("upgrade", "head")
    assert host.tables() == OURS | {"alembic_version", "users"}
    host.alembic("check")
    asyncio.run(schema.check(database_url))


def test_our_history_beside_theirs(tmp_path: Path, database_url: str) -> None:
    asyncio.run(schema.upgrade(database_url))
    options = "target_metadata=theirs, include_name=sqlsessions.schema.include_name"
    host = Host(tmp_path, database_url, options)
    generated = host.autogenerate()
    assert "users" in generated
    assert "session" not in generated
    host.alembic("upgrade", "head")
    asyncio.run(schema.check(database_url))


@pytest.mark.parametrize("database_url", ["postgresql+asyncpg"], indirect=True)
def test_autogenerate_over_all_schemas_leaves_our_tables_alone(tmp_path: Path, database_url: str) -> None:
    asyncio.run(execute(database_url, "CREATE SCHEMA tenant"))
    asyncio.run(schema.upgrade(f"{database_url}?schema=tenant"))
    asyncio.run(schema.upgrade(database_url))
    options = "target_metadata=theirs, include_schemas=True"
    (tmp_path / "bare").mkdir()
    assert "schema='tenant'" in Host(tmp_path / "bare", database_url, options).autogenerate()
    generated = Host(
        tmp_path, database_url, f"{options}, include_name=sqlsessions.schema.include_name"
    ).autogenerate()
    assert "users" in generated
    assert "session" not in generated


def test_without_the_filter_autogenerate_would_drop_our_tables(tmp_path: Path, database_url: str) -> None:
    asyncio.run(schema.upgrade(database_url))
    assert (
        "op.drop_table('sessions')" in Host(tmp_path, database_url, "target_metadata=theirs").autogenerate()
    )


def test_their_sessions_table_stays(tmp_path: Path, database_url: str) -> None:
    asyncio.run(execute(database_url, "CREATE TABLE sessions (id INTEGER)"))
    host = Host(tmp_path, database_url, "target_metadata=theirs", "sqlsessions.migrations:versions")
    with pytest.raises(CommandError, match="'sessions' of this database is not one of sqlsessions"):
        host.alembic("upgrade", "heads")
    assert "session_chunks" not in host.tables()
