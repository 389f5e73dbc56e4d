"""A MariaDB Galera Cluster of three nodes, each of which takes writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pymysql
from sqlalchemy import make_url

from .mariadb import MariaDB
from .process import START_WITHIN, folder, free_port, missing, until

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
NODES = 3


class Node(MariaDB):
    """A node; it answers once it has what the others have."""

    def __init__(self, folder: Path, group: int, members: str, **settings: object) -> None:
        transfer, increments = free_port(), free_port()
        wsrep = {
            "binlog_format": "ROW",
            "innodb_autoinc_lock_mode": 2,
            "wsrep_on": "ON",
            "wsrep_provider": PROVIDER,
            "wsrep_cluster_name": "sqlsessions",
            "wsrep_cluster_address": f"gcomm://{members}",
            "wsrep_node_address": "127.0.0.1",
            "wsrep_sst_method": "rsync",
            "wsrep_sst_receive_address": f"127.0.0.1:{transfer}",
            "wsrep_provider_options": (
                f"gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{increments};"
                "gcache.size=32M"
            ),
        }
        super().__init__(folder, **(wsrep | settings))
        self.first = False

    def command(self) -> Sequence[str]:
        """What is run."""
        return [*super().command(), *(["--wsrep-new-cluster"] if self.first else [])]

    def answers(self) -> bool:
        """Whether it serves clients."""
        try:
            return self.status("wsrep_local_state_comment") == "Synced"
        except pymysql.MySQLError:
            return False

    def status(self, name: str) -> str | None:
        """One of its ``wsrep_`` variables."""
        return self.value(f"SHOW STATUS LIKE '{name}'")


class Galera:
    """A cluster.

    Attributes:
        nodes: Its nodes.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        groups = [free_port() for _ in range(NODES)]
        members = ",".join(f"127.0.0.1:{group}" for group in groups)
        self.nodes = [Node(folder / str(i), group, members, **settings) for i, group in enumerate(groups)]

    @property
    def urls(self) -> list[str]:
        """Of each node, of no database."""
        return [node.url for node in self.nodes]

    def create_database(self) -> list[str]:
        """The URLs, one by each node, of a new, empty database."""
        name = make_url(self.nodes[0].create_database()).database
        return [f"{url}/{name}" for url in self.urls]

    def kill(self, node: int) -> None:
        """SIGKILL to a node."""
        self.nodes[node].kill()

    def start(self, node: int) -> None:
        """Let a node join the others again, and wait until it has what they have."""
        self.nodes[node].start()

    def size(self, node: int) -> int:
        """How many nodes a node sees, itself included."""
        return int(self.nodes[node].status("wsrep_cluster_size") or 0)

    @contextmanager
    def started(self) -> Iterator[Galera]:
        """It runs meanwhile."""
        with ExitStack() as running:
            for node in self.nodes:
                node.first = node is self.nodes[0]
                running.enter_context(node.started())
            self.nodes[0].first = False
            until(lambda: self.size(0) == NODES, "all nodes have joined", START_WITHIN)
            yield self


@contextmanager
def galera(**settings: object) -> Iterator[Galera]:
    """A cluster of three nodes that runs meanwhile.

    Args:
        settings: Of each node, as in ``my.cnf``.
    """
    if not PROVIDER.exists():
        missing(f"no {PROVIDER}, which Debian's package galera-4 has")
    with folder() as path, Galera(path, **settings).started() as cluster:
        yield cluster
