"""What a role may not do, and what it has to wait for too long: one error that says which, and `doctor` names it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import CacheStorage, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.testing._base import PATIENCE

from ..commands.test_doctor import doctor
from ..databases import NetworkServer, available
from .support import LARGE, TINY, at

DRIVERS = {"postgresql": "postgresql+asyncpg", "mariadb": "mysql+asyncmy", "mysql": "mysql+asyncmy"}
ALL = "SELECT, INSERT, UPDATE, DELETE"
VERSIONS = {"sqlsessions_alembic_version": "SELECT", "session_labels": ALL, "session_ends": ALL}


def network(kind: str) -> NetworkServer:
    server = available(kind)
    assert isinstance(server, NetworkServer)
    return server


@contextmanager
def limited(kind: str, rights: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A new database of ours: its URL for its owner, and for a role with some rights on its tables."""
    server = network(kind)
    url = server.create().set(drivername=DRIVERS[kind])
    owner = url.render_as_string(hide_password=False)
    asyncio.run(schema.upgrade(owner))
    name = f"role_{secrets.token_hex(6)}"
    if kind == "postgresql":
        role, create, drop = name, f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'", f"DROP ROLE {name}"
    else:
        role = f"'{name}'@'{url.host}'"
        create, drop = f"CREATE USER {role} IDENTIFIED BY 'hunter2'", f"DROP USER {role}"
    server.execute(url, create, *(f"GRANT {which} ON {table} TO {role}" for table, which in rights.items()))
    try:
        yield owner, url.set(username=name, password="hunter2").render_as_string(hide_password=False)
    finally:
        server.drop(url)
        server.execute(server.url, drop)


CALLS: dict[str, Callable[[SqlSessionStorage], Awaitable[object]]] = {
    "small": lambda storage: storage.write_bytes("id", b"data"),
    "large": lambda storage: storage.write_bytes("id", LARGE),
    "end": lambda storage: storage.invalidate("id"),
}


def refusal(url: str, call: str) -> str:
    """What a storage says to a call that it may not do."""

    async def refused() -> str:
        async with SqlSessionStorage(url, retry_for=0, **TINY) as storage:
            with pytest.raises(StorageUnavailable) as caught:
                await CALLS[call](storage)
        return str(caught.value)

    said = asyncio.run(refused())
    assert "hunter2" not in said
    return said


@pytest.mark.parametrize("kind", DRIVERS)
def test_rights_that_are_missing_are_named(kind: str) -> None:
    with limited(kind, {"sessions": "SELECT", "session_chunks": ALL}) as (_, url):
        for call in ("small", "large"):
            assert "table sessions: grant it" in refusal(url, call)
        with pytest.raises(StorageUnavailable, match="table sqlsessions_alembic_version: grant it"):
            asyncio.run(schema.check(url))
        assert "table sqlsessions_alembic_version" in doctor(url, code=1)["database"]["seen"]
    rights = {"sessions": ALL, "session_chunks": "SELECT, DELETE"}
    with limited(kind, rights | VERSIONS) as (_, url):
        assert "table session_chunks: grant it" in refusal(url, "large")
        asyncio.run(schema.upgrade(url))  # for which there is nothing to do
        assert doctor(url, code=1)["rights"]["seen"] == "this user lacks INSERT, UPDATE on session_chunks"
    with limited(kind, {"sessions": ALL, "session_chunks": ALL} | VERSIONS) as (owner, url):
        assert doctor(url)["rights"]["state"] == "ok"
        asyncio.run(schema.downgrade(owner, "sqlsessions@base"))
        with pytest.raises(StorageUnavailable, match=r"right on the schema public|lacks CREATE on"):
            asyncio.run(schema.upgrade(url))


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
def test_row_level_security_is_named(driver: str) -> None:
    with limited("postgresql", {"sessions": ALL, "session_chunks": ALL} | VERSIONS) as (owner, url):
        network("postgresql").execute(make_url(owner), "ALTER TABLE sessions ENABLE ROW LEVEL SECURITY")
        said = refusal(url.replace(DRIVERS["postgresql"], driver), "small")
        assert "row-level security of the table sessions" in said
        assert "hides rows of sessions" in doctor(url)["row-level security"]["seen"]


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """The rows of all sessions are locked by somebody else."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT id FROM sessions FOR UPDATE"))
        yield
    await engine.dispose()


@pytest.mark.parametrize(
    ("database_url", "option", "name"),
    [
        ("postgresql+asyncpg", "options=-clock_timeout=50ms", "lock_timeout"),
        ("postgresql+psycopg", "options=-clock_timeout=50ms", "lock_timeout"),
        ("postgresql+asyncpg", "options=-cstatement_timeout=50ms", "statement_timeout"),
        ("postgresql+psycopg", "options=-cstatement_timeout=50ms", "statement_timeout"),
        ("mysql+asyncmy", "init_command=SET+SESSION+innodb_lock_wait_timeout=0", "innodb_lock_wait_timeout"),
        ("mysql+aiomysql", "init_command=SET+SESSION+max_statement_time=0.05", "max_statement_time"),
    ],
    indirect=["database_url"],
)
async def test_a_limit_below_a_wait_is_tried_again_and_then_named(
    database_url: str, option: str, name: str
) -> None:
    await schema.upgrade(database_url)
    url = at(database_url, make_url(database_url).get_driver_name(), option)
    tried_again = asyncio.Event()

    class Observer:
        def batch(self, size: int, *, writes: bool) -> None:
            pass

        def retry(self, kind: str) -> None:
            tried_again.set()

    async with (
        SqlSessionStorage(url, retry_for=0, operation_timeout=3) as storage,
        SqlSessionStorage(url, retry_for=30) as patient,
    ):
        await storage.write_bytes("id", b"old")
        patient._database.observer = Observer()
        async with locked(database_url):
            for call in ("small", "end"):
                with pytest.raises(StorageUnavailable, match=rf"\b{name}\b"):
                    await CALLS[call](storage)
            waiting = asyncio.create_task(patient.write_bytes("id", b"new"))
            await tried_again.wait()
        await waiting
        assert await storage.read_bytes("id") == b"new"


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_who_may_not_read_notices_asks_for_none(kind: str) -> None:
    """What triggers left would stay for ever."""
    with limited(kind, {"sessions": ALL, "session_chunks": ALL, **VERSIONS}) as (owner, url):

        async def write() -> None:
            async with CacheStorage(SqlSessionStorage(url, **TINY)) as cache, asyncio.timeout(PATIENCE):
                await cache.write_bytes("id", b"data")
                while cache.statistics.bus is None or cache.statistics.bus.obstacle is None:
                    await cache.read_bytes("id")
                    await asyncio.sleep(0.01)
                assert "session_notices" in cache.statistics.bus.obstacle
                await cache.write_bytes("id", b"more")

        async def left() -> int:
            engine = create_async_engine(owner)
            async with engine.connect() as connection:
                wanted = text("SELECT count(*) FROM session_notices")
                count = int((await connection.execute(wanted)).scalar_one())
            await engine.dispose()
            return count

        asyncio.run(write())
        assert asyncio.run(left()) == 0
