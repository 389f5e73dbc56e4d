"""Fixtures of the tests of the SQL storage."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sqlsessions import SqlSessionStorage, schema
from sqlsessions.sql.bus import polling
from sqlsessions.testing import ManualClock

from ..faults.servers.certificates import Certificates, certificates
from ..faults.servers.mariadb import MariaDB
from ..faults.servers.postgres import Postgres
from ..faults.servers.process import folder, give
from .support import TINY


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def polling_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls of notices come often, and it is as a minute after the first of them."""
    monkeypatch.setattr(polling, "PERIOD", 0.05)
    monkeypatch.setattr(polling, "SETTLED", 0.0)


@pytest.fixture(scope="session")
def pem() -> Iterator[Certificates]:
    with folder() as path:
        yield certificates(path)


@pytest.fixture(scope="session")
def tls_servers(pem: Certificates) -> Iterator[dict[str, Any]]:
    """A PostgreSQL and a MariaDB with TLS, each with our tables."""
    with ExitStack() as stack:
        path = stack.enter_context(folder())
        files = {}
        for server, user in (("pg", Postgres.runs_as), ("my", MariaDB.runs_as)):
            give(path / f"tls-{server}", user)
            for name in ("authority", "server", "server_key"):
                copy = path / f"tls-{server}" / name
                shutil.copy(getattr(pem, name), copy)
                copy.chmod(0o600)
                give_file(copy, user)
                files[server, name] = copy
        pg = Postgres(
            path / "pg",
            ssl="on",
            ssl_cert_file=files["pg", "server"],
            ssl_key_file=files["pg", "server_key"],
            ssl_ca_file=files["pg", "authority"],
        )
        my = MariaDB(
            path / "my",
            ssl_cert=files["my", "server"],
            ssl_key=files["my", "server_key"],
            ssl_ca=files["my", "authority"],
        )
        yield {"postgresql": stack.enter_context(pg.started()), "mysql": stack.enter_context(my.started())}


def give_file(path: Path, user: str | None) -> None:
    if user and os.geteuid() == 0:
        shutil.chown(path, user)


@pytest.fixture(scope="session")
def tls_urls(tls_servers: dict[str, Any]) -> dict[str, str]:
    """The URL of a database with our tables, of each kind."""
    found = {kind: server.create_database() for kind, server in tls_servers.items()}
    for url in found.values():
        asyncio.run(schema.upgrade(url))
    return found


@pytest_asyncio.fixture
async def storage(sql_url: str, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    """A storage of one connection, to which a few hundred bytes are a large session."""
    async with SqlSessionStorage(sql_url, clock=clock, pool_size=1, **TINY) as storage:
        await storage.write_bytes("warm", b"")
        yield storage


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """Leaves no garbage of a module's tests to those of the next."""
    yield
    gc.collect()
