"""Databases that a benchmark makes for itself and drops when it is done.

Servers are looked for at SQLSESSIONS_TEST_POSTGRESQL, SQLSESSIONS_TEST_MARIADB, SQLSESSIONS_TEST_MYSQL and
SQLSESSIONS_TEST_REDIS, else at their usual places on this machine. Where it matters when a server answers, it is one of
our own: a Redis that keeps nothing on disk and one that keeps everything, and servers on a slower disk.
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

from .own_servers import Unavailable, postgresql_server, redis_server

__all__ = ["Unavailable", "address", "database"]

SERVERS = {
    "postgresql": ("SQLSESSIONS_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres"),
    "mariadb": ("SQLSESSIONS_TEST_MARIADB", "mysql://root@127.0.0.1:3306"),
    "mysql": ("SQLSESSIONS_TEST_MYSQL", "mysql://root@127.0.0.1:3307"),
    "redis": ("SQLSESSIONS_TEST_REDIS", "redis://127.0.0.1:6379"),
}
DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "mariadb": "mysql+asyncmy",
    "mysql": "mysql+asyncmy",
    "sqlite": "sqlite+aiosqlite",
}


@asynccontextmanager
async def database(kind: str, *, fsync: float = 0.0, shared_buffers: int = 0) -> AsyncIterator[str]:
    """The URL of a new database with the tables of sqlsessions, or of a new Redis.

    Args:
        kind: ``postgresql``, ``mariadb``, ``mysql`` or ``sqlite``; ``redis``, which keeps nothing on disk,
            ``redis-7.4``, the same of that version or newer, or ``redis-always``, which answers once a write is on disk.
        fsync: Seconds that the server needs besides to reach its disk; not of ``mariadb`` and ``mysql``, and of
            ``sqlite`` it is this process that would have to be slowed.
        shared_buffers: The cache of PostgreSQL, in MiB, which is then one of our own.

    Raises:
        Unavailable: If there is no server.
    """
    async with AsyncExitStack() as stack:
        if kind.startswith("redis"):
            oldest = (7, 4) if kind == "redis-7.4" else (0, 0)
            redis = redis_server(durable=kind == "redis-always", fsync=fsync, oldest=oldest)
            yield await stack.enter_async_context(redis)
            return
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            url = URL.create(DRIVERS[kind], database=str(Path(folder) / "sessions.db"))
        else:
            server = make_url(address(kind))
            if fsync or shared_buffers:
                own = postgresql_server(fsync=fsync, shared_buffers=shared_buffers or 128)
                server = make_url(await stack.enter_async_context(own))
            url = await stack.enter_async_context(_on_server(server.set(drivername=DRIVERS[kind])))
        await schema.upgrade(url)
        yield url.render_as_string(hide_password=False)


@asynccontextmanager
async def _on_server(server: URL) -> AsyncIterator[URL]:
    name = f"sqlsessions_bench_{secrets.token_hex(6)}"
    try:
        async with asyncio.timeout(10):
            await _execute(server, f"CREATE DATABASE {name}")
    except (SQLAlchemyError, OSError, ImportError) as error:
        place = server.render_as_string(hide_password=True)
        kind = server.get_backend_name()
        raise Unavailable(f"no {kind} server at {place}: {type(error).__name__}") from error
    try:
        yield server.set(database=name)
    finally:
        force = " WITH (FORCE)" if server.get_backend_name() == "postgresql" else ""
        await _execute(server, f"DROP DATABASE {name}{force}")


def address(kind: str) -> str:
    """Where a server is."""
    variable, usual = SERVERS[kind]
    return os.environ.get(variable) or usual


async def _execute(url: URL, statement: str) -> None:
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
