"""Schemas: tables are in the one that is meant, and in no other."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sqlsessions import SchemaOutOfDate, SqlSessionStorage, StorageUnavailable, schema

from ..databases import SERVED_BY, available
from ..sql.support import TINY, query
from .support import OURS, REVISION, dialect, execute, parted, table_names

postgresql = pytest.mark.parametrize("database_url", ["postgresql+asyncpg"], indirect=True)

TRIGGERS = """
    SELECT nspname, proname, count(*) FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_proc ON pg_proc.oid = tgfoid AND pronamespace = relnamespace
    WHERE relname = 'sessions' GROUP BY 1, 2
"""


async def check_apart(first: Any, second: Any) -> None:
    """Each of two engines or URLs has tables and sessions of its own; the second's are left."""
    await schema.upgrade(first)
    assert await schema.current(second) is None
    with pytest.raises(SchemaOutOfDate, match="has no session tables"):
        await schema.check(second)
    await schema.create_tables(second)
    for target in (first, second):
        await schema.upgrade(target)
        await schema.check(target)
        assert await schema.current(target) == REVISION
    async with SqlSessionStorage(first, **TINY) as one, SqlSessionStorage(second, **TINY) as other:
        for storage, data in ((one, b"1"), (other, b"2")):
            await storage.write_bytes("id", data, subject="alice")
            await storage.write_bytes("large", data * 1000, subject="alice")
        for storage, data in ((one, b"1"), (other, b"2")):
            assert await storage.read_bytes("id") == data
            assert await storage.read_bytes("large") == data * 1000
        assert await one.revoke("alice") == 2
        assert await one.load("id") is None
        await one.purge()
        assert len([info async for info in other.sessions("alice")]) == 2
    await schema.downgrade(first, "sqlsessions@base")
    with pytest.raises(SchemaOutOfDate):
        await schema.check(first)
    await schema.check(second)


def translating(url: str, name: str) -> AsyncEngine:
    return create_async_engine(url).execution_options(schema_translate_map={None: name})


def setting(url: str, happening: str, statement: str) -> AsyncEngine:
    """An engine with an event that runs a statement; at ``engine_connect``, it commits that."""
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, happening)
    def happened(connection: Connection) -> None:
        connection.exec_driver_sql(statement)
        if happening == "engine_connect":
            connection.commit()

    return engine


def in_role(url: str, name: str) -> str:
    return make_url(url).set(username=name, password="secret").render_as_string(hide_password=False)


WAYS: dict[str, Callable[[str, str], Any]] = {
    "schema_translate_map": translating,
    "engine_connect": lambda url, name: setting(
        url, "engine_connect", f'SET search_path TO "{name}", public'
    ),
    "options": lambda url, name: f"{url}?options=-csearch_path=%22{name}%22,public",
    "schema": lambda url, name: f"{url}?schema={name}",
    "role": in_role,
}


@asynccontextmanager
async def two_schemas(url: str) -> AsyncIterator[list[str]]:
    """Two schemas, each with a role of its name that owns it."""
    names = [f"Tenant_{secrets.token_hex(6)}" for _ in range(2)]
    for name in names:
        await execute(
            url, f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'", f'CREATE SCHEMA AUTHORIZATION "{name}"'
        )
    try:
        yield names
    finally:
        for name in names:
            await execute(url, f'DROP SCHEMA "{name}" CASCADE', f'DROP ROLE "{name}"')


@pytest.mark.parametrize("way", WAYS)
@postgresql
async def test_tenants_of_postgresql(database_url: str, way: str) -> None:
    async with two_schemas(database_url) as names, AsyncExitStack() as stack:
        targets = [WAYS[way](database_url, name) for name in names]
        for target in targets:
            if isinstance(target, AsyncEngine):
                stack.push_async_callback(target.dispose)
        await check_apart(*targets)
        assert await table_names(database_url) == set()
        assert await query(database_url, TRIGGERS) == [(names[1], "sqlsessions_notify", 3)]


@pytest.mark.parametrize("database_url", ["sqlite+aiosqlite", "mysql+asyncmy"], indirect=True)
async def test_translated_schemas_of_others(database_url: str, tmp_path: Path) -> None:
    """Those of MySQL are databases, and those of SQLite attached files."""
    made_by = available(SERVED_BY[f"{make_url(database_url).drivername}"])
    other = made_by.create()
    name = "beside" if dialect(database_url) == "sqlite" else str(other.database)
    translated = translating(database_url, name)
    if dialect(database_url) == "sqlite":
        event.listen(
            translated.sync_engine,
            "connect",
            lambda connection, _: connection.execute(f"ATTACH '{other.database}' AS beside"),
        )
    await check_apart(translated, database_url)
    await translated.dispose()
    missing = translating(database_url, "missing")
    for attempt in (schema.upgrade(missing), schema.check(missing)):
        with pytest.raises(SchemaOutOfDate, match="there is no schema 'missing'"):
            await attempt
    await missing.dispose()
    made_by.drop(other)


THEIRS = "CREATE TABLE {}.sessions (id INTEGER, version INTEGER, data TEXT)"


@pytest.mark.parametrize("path", ["missing", "missing,public", '"Mis""sing"', '"$user",missing,public'])
@postgresql
async def test_a_schema_that_is_not_there_is_named(database_url: str, path: str) -> None:
    engine = setting(database_url, "engine_connect", f"SET search_path TO {path}")
    for attempt in (schema.upgrade, schema.create_tables, schema.check, schema.current):
        with pytest.raises(SchemaOutOfDate, match=r"there is no schema '(missing|Mis\"sing)'"):
            await attempt(engine)
    assert await table_names(database_url) == set()
    await engine.dispose()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@postgresql
async def test_somebody_elses_table_that_comes_first_is_refused(database_url: str, driver: str) -> None:
    await schema.upgrade(database_url)
    await execute(database_url, "CREATE SCHEMA theirs", THEIRS.format("theirs"))
    url = f"{database_url.replace('asyncpg', driver)}?options=-csearch_path=theirs,public"
    for look in (schema.check, schema.upgrade, schema.create_tables):
        with pytest.raises(
            SchemaOutOfDate, match="'sessions' of the schema 'theirs' is not one of sqlsessions"
        ):
            await look(url)
    async with SqlSessionStorage(url, retry_for=0) as storage:
        for call in (
            storage.write_bytes("id", b"data"),
            storage.read_bytes("id"),
            storage.touch("id"),
            storage.invalidate("id"),
            storage.revoke("alice"),
            storage.purge(),
        ):
            with pytest.raises(SchemaOutOfDate):
                await call


@postgresql
async def test_tables_in_a_later_schema_are_not_shared_silently(database_url: str) -> None:
    """They may be another service's; somebody else's table there is nobody's business."""
    await schema.upgrade(database_url)
    await execute(database_url, "CREATE SCHEMA own", "CREATE SCHEMA theirs", THEIRS.format("theirs"))
    url = f"{database_url}?options=-csearch_path=own,public"
    for look in (schema.check, schema.upgrade, schema.create_tables):
        with pytest.raises(SchemaOutOfDate, match="in the schema 'public', which comes after 'own'"):
            await look(url)
    await schema.check(f"{database_url}?schema=public")
    await schema.upgrade(f"{database_url}?options=-csearch_path=own,theirs")
    await schema.check(url)
    found = await query(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'own'")
    assert found == [(len(OURS) + 1,)]


@postgresql
async def test_a_schema_that_the_role_may_not_use_is_not_passed_over(database_url: str) -> None:
    async with two_schemas(database_url) as [name, other]:
        url = f"{in_role(database_url, name)}?options=-csearch_path=%22{other}%22,public"
        for look in (schema.check, schema.upgrade):
            with pytest.raises(StorageUnavailable, match=f"lacks USAGE on the schema '{other}'"):
                await look(url)


@pytest.mark.parametrize("statement", ["SET LOCAL search_path TO public", "SET LOCAL ROLE pg_monitor"])
@postgresql
async def test_an_engine_that_sets_tenants_for_a_transaction_is_refused(
    database_url: str, statement: str
) -> None:
    """The statements of a storage commit by themselves: such a setting would be without effect."""
    await schema.upgrade(database_url)
    engine = setting(database_url, "begin", statement)
    async with SqlSessionStorage(engine) as storage:
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="for a transaction alone"):
                await storage.write_bytes("id", b"data")
    await engine.dispose()


@postgresql
async def test_a_script_makes_its_tables_in_the_schema_of_its_url(database_url: str) -> None:
    await execute(database_url, 'CREATE SCHEMA "My App"')
    url = f"{database_url}?schema=My%20App"
    await execute(database_url, *parted(await schema.script(url)))
    await schema.check(url)
    assert await schema.current(url) == REVISION
    assert await table_names(database_url) == set()
