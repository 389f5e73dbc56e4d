"""The servers that the other tests break."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import psutil
import pytest

from .servers.mariadb import MariaDB, mariadb_server
from .servers.pgbouncer import pgbouncer
from .servers.postgres import Postgres, postgres_server

Server = Postgres | MariaDB
each_server = pytest.mark.parametrize("started", [postgres_server, mariadb_server])


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
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not [child for child in alive if child.status() != "zombie"]
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
