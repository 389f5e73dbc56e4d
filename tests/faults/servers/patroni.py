"""PostgreSQL with automatic failover: two servers under Patroni, etcd, and HAProxy in front of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, ClassVar

import psutil
from sqlalchemy import make_url

from ...databases import PostgreSQLServer
from .postgres import BINARIES, QUICK
from .process import Process, family, folder, free_port, program, until

SETTINGS = {
    "ttl": 20,
    "loop_wait": 2,
    "retry_timeout": 5,
    "synchronous_mode": True,
    "postgresql": {"use_pg_rewind": True, "parameters": QUICK | {"wal_keep_size": "64MB"}},
}
HAPROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 1h
    timeout server 1h

listen postgresql
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
"""


class Etcd(Process):
    """Where the nodes agree who is the primary."""

    runs_as: ClassVar = "nobody"

    def command(self) -> Sequence[str]:
        """What is run."""
        clients, peers = (f"http://127.0.0.1:{port}" for port in (self.port, free_port()))
        arguments = {
            "data-dir": self.folder / "data",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
        }
        etcd = program("etcd", "etcd-server")
        return [etcd, *(f"--{name}={value}" for name, value in arguments.items())]

    def answers(self) -> bool:
        """Whether it serves clients."""
        return request(self.port, "GET", "/health")[0] == 200


class Node(Process):
    """A PostgreSQL server and the Patroni that looks after it.

    Attributes:
        port: PostgreSQL's.
        rest: Patroni's.
    """

    runs_as: ClassVar = "nobody"

    def __init__(self, folder: Path, etcd: int, **settings: object) -> None:
        super().__init__(folder)
        self.rest = free_port()
        self.data = folder / "data"
        self._etcd = etcd
        self._settings = SETTINGS | settings

    def prepare(self) -> None:
        """Write its configuration."""
        postgres = Path(program("postgres", "postgresql", BINARIES))
        everybody = ["local all all trust", "host all all 127.0.0.1/32 trust"]
        configuration = {
            "scope": "sqlsessions",
            "name": self.folder.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"host": f"127.0.0.1:{self._etcd}"},
            "bootstrap": {"dcs": self._settings, "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}]},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data),
                "bin_dir": str(postgres.parent),
                "pgpass": str(self.folder / "pgpass"),
                "parameters": {"unix_socket_directories": str(self.folder)},
                "pg_hba": [*everybody, "host replication all 127.0.0.1/32 trust"],
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                },
            },
        }
        (self.folder / "patroni.yml").write_text(json.dumps(configuration))  # which is YAML as well

    def command(self) -> Sequence[str]:
        """What is run."""
        return [program("patroni", "patroni"), str(self.folder / "patroni.yml")]

    def answers(self) -> bool:
        """Whether it is the primary or follows it."""
        return self.primary or request(self.rest, "OPTIONS", "/replica")[0] == 200

    @property
    def primary(self) -> bool:
        """Whether it is the primary."""
        return self.running and request(self.rest, "OPTIONS", "/primary")[0] == 200

    def postmaster(self) -> list[psutil.Process]:
        """PostgreSQL's processes, which are none of Patroni's children."""
        with suppress(OSError, ValueError):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return [one for one in family(pid) if one.is_running()]
        return []

    def processes(self) -> list[psutil.Process]:
        """Patroni's and PostgreSQL's."""
        return [*super().processes(), *self.postmaster()]

    def stop(self) -> None:
        """End both without waiting for the other node."""
        patroni = super().processes()
        for process in (*patroni, *self.postmaster()[:1]):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL if process in patroni else signal.SIGQUIT)
        until(lambda: not self.running and not self.postmaster(), "a node has ended")


class HAProxy(Process):
    """Forwards connections to the primary."""

    runs_as: ClassVar = "nobody"

    def __init__(self, folder: Path, nodes: Sequence[Node]) -> None:
        super().__init__(folder)
        self._nodes = nodes

    def prepare(self) -> None:
        """Write its configuration."""
        servers = [
            f"    server {node.folder.name} 127.0.0.1:{node.port} check port {node.rest}\n"
            for node in self._nodes
        ]
        (self.folder / "haproxy.cfg").write_text(HAPROXY.format(port=self.port) + "".join(servers))

    def command(self) -> Sequence[str]:
        """What is run."""
        return [program("haproxy", "haproxy", "usr/sbin"), "-f", str(self.folder / "haproxy.cfg")]

    def answers(self) -> bool:
        """Whether it reaches a primary."""
        server = PostgreSQLServer(make_url(f"postgresql://postgres@127.0.0.1:{self.port}/postgres"))
        with suppress(Exception):
            server.execute(server.url, "CREATE TEMPORARY TABLE writable ()")
            return True
        return False


class Patroni:
    """A cluster with one primary and one standby that acknowledges every commit.

    Attributes:
        url: ``postgresql://`` by way of HAProxy, of the database ``postgres``.
        nodes: Both servers.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.etcd = Etcd(folder / "etcd")
        self.nodes = [Node(folder / f"node{i}", self.etcd.port, **settings) for i in range(2)]
        self.haproxy = HAProxy(folder / "haproxy", self.nodes)
        self.url = f"postgresql://postgres@127.0.0.1:{self.haproxy.port}/postgres"

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        return PostgreSQLServer(make_url(self.url)).create().render_as_string(hide_password=False)

    def primary(self) -> Node:
        """The node that is the primary."""
        until(lambda: any(node.primary for node in self.nodes), "there is a primary")
        return next(node for node in self.nodes if node.primary)

    def wait_synchronous(self) -> None:
        """Wait until a failover would lose nothing."""
        until(self._synchronous, "the standby is synchronous")

    def _synchronous(self) -> bool:
        status, answer = request(self.primary().rest, "GET", "/cluster")
        members = json.loads(answer)["members"] if status == 200 else []
        return {("leader", "running"), ("sync_standby", "running")} <= {
            (m["role"], m["state"]) for m in members
        }

    def kill_primary(self) -> Node:
        """SIGKILL to Patroni and PostgreSQL of the primary, at once; the standby takes its place later."""
        primary = self.primary()
        primary.kill()
        return primary

    def kill_postmaster(self) -> Node:
        """SIGKILL to the primary's PostgreSQL, which its Patroni starts again."""
        primary = self.primary()
        for process in primary.postmaster():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return primary

    def switchover(self) -> None:
        """Let primary and standby change places, and wait for that."""
        self.wait_synchronous()
        leader = self.primary()
        [candidate] = [node for node in self.nodes if node is not leader]
        body = json.dumps({"leader": leader.folder.name, "candidate": candidate.folder.name})
        # Patroni refuses while it believes that the standby is not synchronous.
        until(lambda: request(leader.rest, "POST", "/switchover", body)[0] == 200, "a switchover")

    def restart_dead(self) -> None:
        """Start what was killed, and wait until it follows the primary."""
        for node in self.nodes:
            if not node.running:
                node.start()
        self.wait_synchronous()

    @contextmanager
    def started(self) -> Iterator[Patroni]:
        """It runs meanwhile."""
        with ExitStack() as running:
            for process in (self.etcd, *self.nodes, self.haproxy):
                running.enter_context(process.started())
            self.wait_synchronous()
            yield self


def request(port: int, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    """Status and text of an answer; 0 if there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


@contextmanager
def patroni(**settings: object) -> Iterator[Patroni]:
    """A cluster that runs meanwhile.

    Args:
        settings: Of the cluster, as in the part ``bootstrap.dcs`` of Patroni's configuration.
    """
    with folder() as path, Patroni(path, **settings).started() as cluster:
        yield cluster
