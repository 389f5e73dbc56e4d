"""Databases that a benchmark makes for itself and drops when it is done.

Servers are looked for at SQLSESSIONS_TEST_POSTGRESQL, SQLSESSIONS_TEST_MARIADB and SQLSESSIONS_TEST_REDIS,
else at their usual places on this machine.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sqlsessions import schema

SERVERS = {
    "postgresql": ("SQLSESSIONS_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres"),
    "mysql": ("SQLSESSIONS_TEST_MARIADB", "mysql://root@127.0.0.1:3306"),
    "redis": ("SQLSESSIONS_TEST_REDIS", "redis://127.0.0.1:6379"),
}
DRIVERS = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy", "sqlite": "sqlite+aiosqlite"}
DROP = {"postgresql": "DROP DATABASE {} WITH (FORCE)", "mysql": "DROP DATABASE {}"}


class Unavailable(Exception):
    """A server does not answer, or a package is not installed; the message says which."""


@asynccontextmanager
async def database(kind: str) -> AsyncIterator[str]:
    """The URL of a new database with the tables of sqlsessions; of a Redis server as it is.

    Raises:
        Unavailable: If there is no server.
    """
    async with AsyncExitStack() as stack:
        if kind == "redis":
            yield await _redis()
            return
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            url = URL.create(DRIVERS[kind], database=str(Path(folder) / "sessions.db"))
        else:
            url = await stack.enter_async_context(_on_server(kind))
        await schema.upgrade(url)
        yield url.render_as_string(hide_password=False)


@asynccontextmanager
async def _on_server(kind: str) -> AsyncIterator[URL]:
    server = make_url(address(kind)).set(drivername=DRIVERS[kind])
    name = f"sqlsessions_bench_{secrets.token_hex(6)}"
    try:
        async with asyncio.timeout(10):
            await _execute(server, f"CREATE DATABASE {name}")
    except (SQLAlchemyError, OSError, ImportError) as error:
        place = server.render_as_string(hide_password=True)
        raise Unavailable(f"no {kind} server at {place}: {type(error).__name__}") from error
    try:
        yield server.set(database=name)
    finally:
        await _execute(server, DROP[kind].format(name))


async def _redis() -> str:
    from redis.asyncio import Redis  # its peers are imported by now, so that it is there
    from redis.exceptions import RedisError

    client = Redis.from_url(address("redis"))
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise Unavailable(f"no redis server at {address('redis')}: {type(error).__name__}") from error
    finally:
        await client.aclose()
    return address("redis")


def address(kind: str) -> str:
    """Where a server is."""
    variable, usual = SERVERS[kind]
    return os.environ.get(variable) or usual


async def _execute(url: URL, statement: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
