"""Settings of MariaDB and MySQL, one after the other: everything works, or is refused with a sentence that says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from functools import cache

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SessionConflict, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of

from ..faults.servers.mariadb import MariaDB, mariadb_server
from ..faults.servers.mysql import mysql_server
from .support import LARGE, TINY

pytestmark = pytest.mark.timeout(120)

SUBJECT = "admin\U0001f600 "
STARTED_WITH = {
    "innodb_rollback_on_timeout": "ON",
    "character_set_server": "latin1",
}
LOGGING = {"log_bin": "binlog", "server_id": 1, "sync_binlog": 0, "innodb_flush_log_at_trx_commit": 2}

# The statement that sets it, how it is undone, what a storage with a URL says, what one with an engine says.
Setting = tuple[str, str, str | None, str | None]


def variable(name: str, value: str, url: str | None = None, engine: str | None = None) -> Setting:
    return f"SET GLOBAL {name} = {value}", f"SET GLOBAL {name} = DEFAULT", url, engine or url


def mode(*modes: str, engine: str | None = None) -> Setting:
    return variable("sql_mode", f"'{','.join(modes)}'", None, engine)


def isolation(level: str) -> Setting:
    return (
        f"SET GLOBAL TRANSACTION ISOLATION LEVEL {level}",
        "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        None,
        None,
    )


USELESS = "SQLAlchemy cannot use a connection that each ROLLBACK ends"

EVERYWHERE: dict[str, Setting] = {
    "as it is": isolation("REPEATABLE READ"),
    "no sql_mode": mode(),
    "TRADITIONAL": mode("TRADITIONAL"),
    "ANSI": mode("ANSI"),
    "HIGH_NOT_PRECEDENCE": mode("HIGH_NOT_PRECEDENCE", "IGNORE_SPACE", "NO_UNSIGNED_SUBTRACTION"),
    "PAD_CHAR_TO_FULL_LENGTH": mode("PAD_CHAR_TO_FULL_LENGTH"),
    "NO_BACKSLASH_ESCAPES": mode("NO_BACKSLASH_ESCAPES", engine="NO_BACKSLASH_ESCAPES"),
    "NO_BACKSLASH_ESCAPES,ANSI": mode("ANSI", "NO_BACKSLASH_ESCAPES", engine="NO_BACKSLASH_ESCAPES"),
    "completion_type=CHAIN": variable("completion_type", "'CHAIN'", None, "completion_type"),
    "completion_type=RELEASE": variable("completion_type", "'RELEASE'", None, USELESS),
    "compact": variable("innodb_default_row_format", "compact"),
    "redundant": variable("innodb_default_row_format", "redundant"),
    "binlog_format=STATEMENT": variable("binlog_format", "'STATEMENT'", "set it to ROW or MIXED"),
    "max_allowed_packet=1M": variable("max_allowed_packet", "1048576", "max_allowed_packet"),
    "max_allowed_packet=2M": variable("max_allowed_packet", "2097152"),
    "latin1": variable("character_set_server", "latin1"),
    "time_zone": variable("time_zone", "'-11:00'"),
    "innodb_strict_mode=0": variable("innodb_strict_mode", "0"),
    "sql_safe_updates": variable("sql_safe_updates", "1", None, "sql_safe_updates"),
    "sql_select_limit": variable("sql_select_limit", "1", None, "sql_select_limit"),
    "max_join_size": variable("max_join_size", "1", None, "sql_big_selects"),
    "sql_auto_is_null": variable("sql_auto_is_null", "1"),
    "MyISAM": variable("default_storage_engine", "MyISAM"),
    "wait_timeout": variable("wait_timeout", "1"),
    "SERIALIZABLE": isolation("SERIALIZABLE"),
    "READ UNCOMMITTED": isolation("READ UNCOMMITTED"),
}
MARIADB: dict[str, Setting] = {
    "no autocommit": variable("autocommit", "0"),
    "ORACLE": mode("ORACLE", engine="ORACLE"),
    "EMPTY_STRING_IS_NULL": mode("EMPTY_STRING_IS_NULL", engine="EMPTY_STRING_IS_NULL"),
    "SIMULTANEOUS_ASSIGNMENT": mode("SIMULTANEOUS_ASSIGNMENT", engine="SIMULTANEOUS_ASSIGNMENT"),
    "MSSQL": mode("MSSQL"),
    "old_mode": variable("old_mode", "'NO_DUP_KEY_WARNINGS_WITH_IGNORE,ZERO_DATE_TIME_CAST'"),
    "tx_read_only": variable("tx_read_only", "1", None, "tx_read_only"),
    "innodb_force_primary_key": variable("innodb_force_primary_key", "1"),
}
MYSQL: dict[str, Setting] = {
    # It tells clients that it is on.
    "autocommit=0": variable("autocommit", "0", None, "autocommit"),
    "transaction_read_only": variable("transaction_read_only", "1", None, "transaction_read_only"),
    "sql_require_primary_key": variable("sql_require_primary_key", "1"),
}
STARTED = {"mariadb": mariadb_server, "mysql": mysql_server}
CASES = [("mariadb", name) for name in EVERYWHERE | MARIADB] + [
    ("mysql", name) for name in EVERYWHERE | MYSQL
]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, MariaDB]]:
    """Servers of the tests' own, as they are needed."""
    with ExitStack() as running:

        class Servers(dict[str, MariaDB]):
            def __missing__(self, kind: str) -> MariaDB:
                self[kind] = server = running.enter_context(STARTED[kind](**STARTED_WITH, **LOGGING))
                return server

        yield Servers()


@pytest.fixture(params=STARTED)
def server(request: pytest.FixtureRequest, servers: dict[str, MariaDB]) -> MariaDB:
    """A server with odd settings from its start."""
    return servers[request.param]


@cache
def migrated(server: MariaDB) -> str:
    """A database with our tables, made once."""
    url = server.create_database()
    with ThreadPoolExecutor(1) as pool:  # the test's own event loop is running here
        pool.submit(lambda: asyncio.run(schema.upgrade(url))).result()
    return url


@asynccontextmanager
async def set_globally(server: MariaDB, setting: Setting) -> AsyncIterator[None]:
    server.execute(setting[0])
    try:
        yield
    finally:
        server.execute(setting[1])


async def use(storage: SqlSessionStorage, clock: ManualClock) -> None:
    """Each operation, with small and large data."""
    for data in (b"small \x00'\\\xff", LARGE):
        await storage.invalidate("id")
        info = await storage.write_bytes("id", data, subject=SUBJECT, if_match=0)
        assert await storage.read_bytes("id") == data
        with pytest.raises(SessionConflict):
            await storage.write_bytes("id", b"late", if_match=info.version + 1)
        info = await storage.write_bytes("id", data + b"!", if_match=info.version)
        await storage.write("other", provider_of(data, data), subject=SUBJECT)
        assert await storage.read_bytes("other") == data * 2
        await storage.rotate("id", "new id")
        assert await storage.read_bytes("new id") == data + b"!"
        assert [each.subject async for each in storage.sessions(SUBJECT)] == [SUBJECT] * 2
        assert await storage.revoke(SUBJECT, keep="new id") == 1
        assert await storage.revoke(SUBJECT) == 1
        assert await storage.load("new id") is None
        for number in range(3):
            await storage.write_bytes(f"short {number}", data, ttl=10)
        clock.advance(20)
        assert await storage.purge() == 3


@pytest.mark.parametrize("driver", ["asyncmy", pytest.param("aiomysql", marks=pytest.mark.variant)])
@pytest.mark.parametrize(("server", "name"), CASES, indirect=["server"])
async def test_a_setting_is_overruled_or_refused(
    server: MariaDB, name: str, driver: str, clock: ManualClock
) -> None:
    setting = (EVERYWHERE | MARIADB | MYSQL)[name]
    new = driver == "asyncmy"  # else the tables are there already
    url = make_url(server.create_database() if new else migrated(server)).set(drivername=f"mysql+{driver}")
    async with set_globally(server, setting):
        if setting[2]:
            for refused in (schema.upgrade(url), SqlSessionStorage(url).load("id")):
                with pytest.raises(StorageUnavailable, match=setting[2]):
                    await refused
        else:
            if new:
                await schema.upgrade(url)
            async with SqlSessionStorage(url, clock=clock, **TINY) as storage:
                await use(storage, clock)
        if setting[3] == USELESS:
            return
        engine = create_async_engine(url)
        async with SqlSessionStorage(engine, clock=clock, **TINY) as storage:
            if setting[3]:
                with pytest.raises(StorageUnavailable, match=setting[3]):
                    await storage.write_bytes("id", b"data")
            else:
                await use(storage, clock)
        await engine.dispose()


PLANTED = "', 5, 'admin', 1, 1, NULL, NULL, NULL, NULL) #"
QUOTED_AWAY = {"gbk": b"\xbf", "big5": b"\xa4", "sjis": b"\x83", "cp932": b"\x83", None: b""}
"""For each character set, the first byte of a character whose second one is a backslash."""


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
@pytest.mark.parametrize("charset", QUOTED_AWAY, ids=str)
@pytest.mark.parametrize("escapes", [True, False], ids=["escapes", "no escapes"])
async def test_data_that_looks_like_sql_stays_data(
    server: MariaDB, driver: str, charset: str | None, escapes: bool, clock: ManualClock
) -> None:
    url = make_url(migrated(server)).set(drivername=f"mysql+{driver}")
    data = (QUOTED_AWAY[charset] or b"") + PLANTED.encode()
    odd = url.update_query_dict({"charset": charset}) if charset else url
    async with set_globally(server, mode(*(() if escapes else ("NO_BACKSLASH_ESCAPES",)))):
        # A URL with another charset is refused, or leads to connections in utf8mb4.
        async with SqlSessionStorage(url, clock=clock, **TINY) as storage:
            await storage.write_bytes("id", data, subject="eve")
            assert await storage.read_bytes("id") == data
            assert [each.subject async for each in storage.sessions()] == ["eve"]
        engine = create_async_engine(odd)
        async with SqlSessionStorage(engine, clock=clock, **TINY) as storage:
            if charset or not escapes:
                with pytest.raises(
                    StorageUnavailable, match="charset" if charset else "NO_BACKSLASH_ESCAPES"
                ):
                    await storage.write_bytes("id", data, subject="eve")
        await engine.dispose()
        async with SqlSessionStorage(url, clock=clock) as storage:
            assert [each.subject async for each in storage.sessions()] == ["eve"]


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
async def test_an_engine_is_looked_at_again_with_each_connection(
    server: MariaDB, driver: str, clock: ManualClock
) -> None:
    url = make_url(migrated(server)).set(drivername=f"mysql+{driver}")
    engine = create_async_engine(url)
    async with SqlSessionStorage(engine, clock=clock) as storage:
        await storage.write_bytes("id", b"data")
        async with set_globally(server, mode("NO_BACKSLASH_ESCAPES")):
            await storage.write_bytes("id", b"by a connection from before")
            await engine.dispose()
            with pytest.raises(StorageUnavailable, match="NO_BACKSLASH_ESCAPES"):
                await storage.write_bytes("id", b"by a new one")
        await engine.dispose()


async def test_a_character_set_that_lacks_characters_is_refused(server: MariaDB, clock: ManualClock) -> None:
    url = make_url(migrated(server)).set(drivername="mysql+asyncmy")
    for charset in ("utf8", "latin1"):
        try:
            engine = create_async_engine(url.update_query_dict({"charset": charset}))
            async with SqlSessionStorage(engine, clock=clock) as storage:
                with pytest.raises(StorageUnavailable, match="charset=utf8mb4"):
                    await storage.write_bytes("id", b"", subject=SUBJECT)
        finally:
            await engine.dispose()


async def test_an_upgrade_that_found_no_room_for_its_index_is_finished(server: MariaDB) -> None:
    url = make_url(migrated(server)).set(drivername="mysql+asyncmy")
    await schema.upgrade(url)
    server._made_by.execute(
        url.set(drivername="mysql"),
        "DROP INDEX ix_sessions_subject ON sessions",
        "DROP INDEX ix_sessions_expires_bucket ON sessions",
        "ALTER TABLE sessions ROW_FORMAT=COMPACT",
        "DROP TABLE sqlsessions_alembic_version, session_chunks",
    )
    await schema.upgrade(url)
    await schema.check(url)


async def test_a_batch_fits_into_packets(server: MariaDB) -> None:
    url = make_url(migrated(server)).set(drivername="mysql+asyncmy")
    data = b"'" * 60_000  # each byte is escaped
    async with (
        set_globally(server, EVERYWHERE["max_allowed_packet=2M"]),
        SqlSessionStorage(url, pool_size=3) as storage,
    ):
        await asyncio.gather(*(storage.write_bytes(f"id {number}", data) for number in range(150)))
        for number in range(150):
            assert await storage.read_bytes(f"id {number}") == data
