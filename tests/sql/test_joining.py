"""The end of sessions in a transaction of the caller's: with its commit, or not at all."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from sqlsessions import (
    CacheStorage,
    InvalidArgument,
    InvalidArgumentType,
    SessionStorageMemory,
    SqlSessionStorage,
    UnsupportedOperation,
    new_session_id,
    schema,
)
from sqlsessions.integrations.opentelemetry import instrument
from sqlsessions.layers.encryption import EncryptedStorage
from sqlsessions.sql.models import metadata
from sqlsessions.testing._base import PATIENCE, listed

from ..databases import SERVED_BY, available
from .support import LARGE, TINY, keep_rotating, kind, mariadb, postgresql, query, quiet, sqlite

DATABASES = ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "MySQL+asyncmy"]
each_database = pytest.mark.parametrize("sql_url", DATABASES, indirect=True)


@asynccontextmanager
async def callers_engine(url: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url, **options)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def connected(engine: AsyncEngine, *, session: bool) -> AsyncIterator[AsyncConnection | AsyncSession]:
    async with AsyncSession(engine) if session else engine.connect() as connection:
        yield connection


async def begin_sessions(storage: SqlSessionStorage) -> None:
    for number in range(3):
        await storage.write_bytes(f"id {number}", LARGE if number else b"small", subject="ann")
    await storage.write_bytes("bob's", b"data", subject="bob")


@pytest.mark.parametrize("session", [False, True], ids=["connection", "session"])
@each_database
async def test_sessions_end_with_the_callers_commit_and_not_with_a_rollback(
    sql_url: str, session: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    caplog.set_level(logging.INFO, "sqlsessions.security")
    async with (
        callers_engine(sql_url) as engine,
        SqlSessionStorage(sql_url, on_invalidated=lambda event: told.append(event.key), **TINY) as sql,
        CacheStorage(sql, max_staleness=1000, bus=None) as storage,
    ):
        await begin_sessions(sql)
        own = await listed(storage, "ann")
        listing = await listed(storage)
        async with connected(engine, session=session) as connection:
            await connection.execute(text("DELETE FROM session_chunks WHERE seq = 12345"))
            assert await storage.revoke("ann", connection=connection) == 3
            assert await storage.revoke("ann", connection=connection) == 0
            assert await storage.invalidate_key(await key_of(sql, "bob's"), connection=connection)
            assert await listed(sql) == listing
            await connection.rollback()
            await quiet(sql)
            assert await listed(sql) == listing
            assert [await storage.read_bytes(f"id {number}") for number in range(3)] == [
                b"small",
                LARGE,
                LARGE,
            ]
            assert not told
            assert "revoked" not in caplog.text

            assert await storage.revoke("ann", connection=connection) == 3
            assert not told
            for number in range(3):
                await storage.read_bytes(f"id {number}")  # which the cache must not keep
            await connection.commit()
            for number in range(3):
                assert await storage.load(f"id {number}") is None
        await quiet(sql)
        assert sorted(told) == sorted(info.key for info in own)
        assert caplog.text.count("sessions revoked") == 1
        assert [info.subject for info in await listed(sql)] == ["bob"]

        async with connected(engine, session=session) as connection:
            assert await storage.invalidate_key(await key_of(sql, "bob's"), connection=connection)
            await connection.commit()
        await quiet(sql)
        assert len(told) == 4
        assert await sql.successor("bob's") is not None
        await sql.write_bytes("id 0", b"again")
        assert await storage.read_bytes("id 0") == b"again"
        assert await storage.read_bytes("id 0") == b"again"
        assert storage.statistics.hits > 0


async def key_of(storage: SqlSessionStorage, id: str) -> str:
    info = await storage.info(id)
    assert info is not None
    return info.key


@each_database
async def test_what_a_savepoint_takes_back_does_not_end(sql_url: str) -> None:
    told: list[str] = []
    async with (
        callers_engine(sql_url) as engine,
        SqlSessionStorage(sql_url, on_invalidated=lambda event: told.append(event.key)) as storage,
    ):
        await begin_sessions(storage)
        bobs = await key_of(storage, "bob's")
        async with engine.begin() as connection:
            await connection.execute(text("DELETE FROM session_chunks WHERE seq = 12345"))
            savepoint = await connection.begin_nested()
            assert await storage.revoke("ann", connection=connection) == 3
            await savepoint.rollback()
            async with connection.begin_nested():
                assert await storage.revoke("bob", connection=connection) == 1
        await quiet(storage)
        assert told == [bobs]
        assert len(await listed(storage, "ann")) == 3


@mariadb
async def test_sessions_end_with_the_commit_of_two_phases(sql_url: str) -> None:
    told: list[str] = []
    async with (
        callers_engine(sql_url) as engine,
        SqlSessionStorage(sql_url, on_invalidated=lambda event: told.append(event.key)) as storage,
    ):
        await begin_sessions(storage)
        async with AsyncSession(engine, twophase=True) as session:
            assert await storage.revoke("ann", connection=session) == 3
            await session.rollback()
            assert await storage.revoke("bob", connection=session) == 1
            await session.commit()
        await quiet(storage)
        assert len(told) == 1
        assert {info.subject for info in await listed(storage)} == {"ann"}


@each_database
async def test_no_session_escapes_by_changing_its_id(sql_url: str) -> None:
    async with (
        callers_engine(sql_url) as engine,
        SqlSessionStorage(sql_url) as service,
        SqlSessionStorage(sql_url) as other,
    ):
        for number in range(8):
            ids = [new_session_id() for _ in range(4)]
            for id in ids:
                await service.write_bytes(id, b"data", subject=f"user {number}")
            clients, started = [], [asyncio.Event() for _ in range(2)]
            for id, event in zip(ids, started, strict=False):
                clients.append(asyncio.create_task(keep_rotating(other, id, event)))
                await event.wait()
            async with asyncio.timeout(PATIENCE):
                async with engine.begin() as connection:
                    await service.revoke(f"user {number}", connection=connection)
                await asyncio.gather(*clients)  # rotated on and on, a session that escaped would never end


@each_database
async def test_the_one_to_keep_is_kept_though_its_id_was_changed_meanwhile(sql_url: str) -> None:
    async with callers_engine(sql_url) as engine, SqlSessionStorage(sql_url) as storage:
        await begin_sessions(storage)
        async with engine.begin() as connection:
            await connection.execute(text("SELECT count(*) FROM session_chunks"))  # from here on, a snapshot
            await storage.rotate("id 1", "new")
            assert await storage.revoke("ann", keep="id 1", connection=connection) == 2
        assert await listed(storage, "ann") == [await storage.info("new")]


@each_database
async def test_a_writer_that_waits_for_the_caller_is_not_waited_for(sql_url: str) -> None:
    async with callers_engine(sql_url, pool_size=2, max_overflow=0) as engine:
        storage = SqlSessionStorage(engine)
        await begin_sessions(storage)
        async with asyncio.timeout(PATIENCE), engine.begin() as connection:
            assert await storage.revoke("ann", connection=connection) == 3
            waiting = asyncio.create_task(storage.write_bytes("id 0", b"later"))
            await asyncio.sleep(0.05)
            assert await storage.revoke("bob", connection=connection) == 1
            assert not waiting.done()
        await waiting
        await quiet(storage)
        assert await listed(storage) == [await storage.info("id 0")]
        assert await storage.read_bytes("id 0") == b"later"
        await storage.aclose()


@each_database
async def test_a_namespace_ends_its_own(sql_url: str) -> None:
    async with (
        callers_engine(sql_url) as engine,
        SqlSessionStorage(sql_url, namespace="shop") as shop,
        SqlSessionStorage(sql_url, namespace="office") as office,
    ):
        await shop.write_bytes("id", b"data", subject="ann")
        info = await office.write_bytes("id", b"data", subject="ann")
        async with engine.begin() as connection:
            assert not await shop.invalidate_key(info.key, connection=connection)
            assert await shop.revoke("ann", connection=connection) == 1
        assert await listed(office) == [info]
        assert await listed(shop) == []


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
async def test_a_storage_in_a_translated_schema_ends_what_is_there(sql_url: str) -> None:
    name = f"sqlsessions_test_{secrets.token_hex(6)}"
    await query(sql_url, f"CREATE SCHEMA {name}")
    try:
        async with (
            callers_engine(sql_url, execution_options={"schema_translate_map": {None: name}}) as translated,
            callers_engine(sql_url) as engine,
        ):
            async with translated.begin() as connection:
                await connection.run_sync(metadata.create_all)
            there, here = SqlSessionStorage(translated), SqlSessionStorage(sql_url)
            for storage in (there, here):
                await storage.write_bytes("id", b"data", subject="ann")
            async with engine.begin() as connection:
                assert await there.revoke("ann", connection=connection) == 1
            assert await listed(there) == []
            async with translated.begin() as connection:
                assert await here.revoke("ann", connection=connection) == 1
            assert await listed(here) == []
            await there.aclose()
            await here.aclose()
    finally:
        await query(sql_url, f"DROP SCHEMA {name}" + (" CASCADE" if kind(sql_url) == "postgresql" else ""))


@pytest.fixture
def second_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another database, of the same kind."""
    name = request.node.callspec.params["sql_url"]
    made_by = available(SERVED_BY[name])
    url = made_by.create()
    yield url.set(drivername=name.lower()).render_as_string(hide_password=False)
    made_by.drop(url)


@each_database
async def test_a_connection_that_cannot_do_it_is_refused(sql_url: str, second_url: str) -> None:
    await schema.upgrade(second_url)
    async with (
        callers_engine(sql_url) as engine,
        callers_engine(second_url) as elsewhere,
        SqlSessionStorage(sql_url) as storage,
    ):
        await begin_sessions(storage)
        async with elsewhere.begin() as connection:
            with pytest.raises(InvalidArgument, match=r"^connection is to another database"):
                await storage.revoke("ann", connection=connection)
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            with pytest.raises(InvalidArgument, match=r"^connection is in AUTOCOMMIT"):
                await storage.revoke("ann", connection=connection)
        with pytest.raises(InvalidArgument, match=r"^connection is closed"):
            await storage.revoke("ann", connection=connection)
        with pytest.raises(InvalidArgumentType, match=r"^connection must be an AsyncConnection"):
            await storage.invalidate_key(await key_of(storage, "id 0"), connection=engine)
        assert len(await listed(storage, "ann")) == 3


@mariadb
async def test_an_isolation_in_which_a_rotation_could_be_missed_is_refused(sql_url: str) -> None:
    async with (
        callers_engine(sql_url, isolation_level="READ COMMITTED") as engine,
        SqlSessionStorage(sql_url) as storage,
        engine.begin() as connection,
    ):
        with pytest.raises(InvalidArgument, match=r"^connection must be in REPEATABLE READ or SERIALIZABLE"):
            await storage.revoke("ann", connection=connection)


@postgresql
async def test_a_connection_to_another_kind_of_database_is_refused(sql_url: str) -> None:
    async with (
        callers_engine("sqlite+aiosqlite://") as engine,
        SqlSessionStorage(sql_url) as storage,
        engine.begin() as connection,
    ):
        with pytest.raises(InvalidArgument, match=r"^connection is to another kind of database"):
            await storage.revoke("ann", connection=connection)


async def test_a_storage_in_memory_has_no_transaction_to_join() -> None:
    storage = SessionStorageMemory()
    info = await storage.write_bytes("id", b"data", subject="ann")
    for call in (
        storage.revoke("ann", connection=object()),
        storage.invalidate_key(info.key, connection=object()),
    ):
        with pytest.raises(UnsupportedOperation):
            await call
    assert await listed(storage) == [info]


@sqlite
async def test_layers_pass_the_connection_on(sql_url: str) -> None:
    encrypted = EncryptedStorage(SqlSessionStorage(sql_url), [bytes(32)], encrypt_subjects=True)
    async with callers_engine(sql_url) as engine, instrument(CacheStorage(encrypted)) as storage:
        await storage.write_bytes("id", b"data", subject="ann")
        other = await storage.write_bytes("other", b"data", subject="bob")
        for _ in range(2):
            await storage.load("id")
        async with engine.begin() as connection:
            assert await storage.revoke("ann", connection=connection) == 1
            assert await storage.invalidate_key(other.key, connection=connection)
        assert await storage.load("id") is None
        assert await listed(storage) == []


@sqlite
async def test_a_storage_closed_before_the_commit_does_not_spoil_it(
    sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with callers_engine(sql_url) as engine:
        async with engine.begin() as connection, SqlSessionStorage(sql_url) as storage:
            await begin_sessions(storage)
            await storage.revoke("ann", connection=connection)
        assert "closed before a transaction" in caplog.text
        async with SqlSessionStorage(sql_url) as storage:
            assert [info.subject for info in await listed(storage)] == ["bob"]
