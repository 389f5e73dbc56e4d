"""The servers that the other tests break."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import psutil
import pytest

from sqlsessions import SqlSessionStorage, StorageUnavailable, schema

from .servers.mariadb import MariaDB, mariadb_server
from .servers.mysql import mysql_server
from .servers.pgbouncer import pgbouncer
from .servers.postgres import Postgres, postgres_server
from .servers.process import alive
from .servers.replicas import replicated

Server = Postgres | MariaDB
each_server = pytest.mark.parametrize("started", [postgres_server, mariadb_server, mysql_server])


@each_server
def test_a_server_is_killed_and_comes_back_with_its_data(
    started: Callable[[], AbstractContextManager[Server]],
) -> None:
    with started() as server:
        url = server._made_by.create()
        server._made_by.execute(url, "CREATE TABLE t (n INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
        children = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        assert not server.answers()
        assert not any(map(alive, children))
        server.start()
        with pytest.raises(Exception, match=r"[Dd]uplicate"):
            server._made_by.execute(url, "INSERT INTO t VALUES (1)")
        server.send(signal.SIGSTOP)
        server.send(signal.SIGCONT)
        assert server.answers()
    assert not server.running
    assert not server.folder.exists()


def test_a_pooler_comes_back_too() -> None:
    with postgres_server(log_connections="on") as server, pgbouncer(server.create_database()) as pooler:
        assert pooler.answers()
        pooler.kill()
        assert not pooler.answers()
        pooler.start()
        server.kill()
        server.start()
        assert pooler.answers()


async def test_a_replica_is_behind_until_it_may_catch_up() -> None:
    with replicated() as servers:
        url, replica_url = servers.create_database()
        await schema.upgrade(url)
        async with SqlSessionStorage(url) as primary, SqlSessionStorage(replica_url) as replica:
            await primary.write_bytes("id", b"old")
            servers.pause_replay()
            await primary.write_bytes("id", b"new")
            assert await replica.read_bytes("id") == b"old"
            servers.resume_replay()
            assert await replica.read_bytes("id") == b"new"
            with pytest.raises(StorageUnavailable):
                await replica.write_bytes("id", b"where nothing can be written")
