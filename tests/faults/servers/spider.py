"""MariaDB Spider: one server whose tables lie on two others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import make_url

from .mariadb import MariaDB
from .process import folder, missing

PLUGIN = Path("/usr/lib/mysql/plugin/ha_spider.so")
LAZY = {"innodb_flush_log_at_trx_commit": "0"}  # nobody kills these servers
TABLES = {"sessions": "id", "session_chunks": "id", "session_labels": "id", "session_ends": "id"}
"""Our tables, and the column that says on which server a row is."""


class Spider:
    """A front and its data nodes.

    Attributes:
        front: Takes clients, has no rows.
        nodes: Have the rows.
    """

    def __init__(self, front: MariaDB, nodes: list[MariaDB]) -> None:
        self.front = front
        self.nodes = nodes

    def create_database(self) -> str:
        """The URL of a new, empty database of the front."""
        url = self.front.create_database()
        for node in self.nodes:
            node.execute(f"CREATE DATABASE {make_url(url).database}")
        return url

    def spread(self, url: str) -> None:
        """Move the tables of a database that was migrated on the front to the data nodes."""
        database = make_url(url).database
        for name, column in TABLES.items():
            table = f"{database}.{name}"
            made_by = self.front.value(f"SHOW CREATE TABLE {table}") or ""
            for node in self.nodes:
                node.execute(f"USE {database}", made_by)
            parts = ", ".join(
                f"""PARTITION p{i} COMMENT = 'host "127.0.0.1", port "{node.port}", user "root",
                database "{database}", table "{name}"' ENGINE = SPIDER"""
                for i, node in enumerate(self.nodes)
            )
            self.front.execute(
                f"DROP TABLE {table}",
                f"USE {database}",
                f"{made_by.rpartition(')')[0]}) ENGINE=SPIDER DEFAULT CHARSET=utf8mb4 COMMENT='wrapper \"mysql\"' "
                f"PARTITION BY KEY ({column}) ({parts})",
            )


@contextmanager
def spider(**settings: object) -> Iterator[Spider]:
    """A front with two data nodes that run meanwhile.

    Args:
        settings: Of the front, as in ``my.cnf``.
    """
    if not PLUGIN.exists():
        missing(f"no {PLUGIN}, which Debian's package mariadb-plugin-spider has")
    with folder() as path, ExitStack() as running:
        # Neither sees that transactions wait for each other by way of both.
        node = LAZY | {"innodb_lock_wait_timeout": 2}
        nodes = [running.enter_context(MariaDB(path / f"node{i}", **node).started()) for i in range(2)]
        front = MariaDB(path / "front", **(LAZY | {"plugin_load_add": "ha_spider"} | settings))
        yield Spider(running.enter_context(front.started()), nodes)
