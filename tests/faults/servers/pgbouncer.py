"""A PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import psycopg
from sqlalchemy import make_url

from ...databases import PostgreSQLServer
from .process import Process, folder, program


class PgBouncer(Process):
    """A PgBouncer that lets everybody in.

    Attributes:
        url: As the server's, by way of the pooler.
    """

    runs_as: ClassVar = "nobody"

    def __init__(self, folder: Path, url: str, **settings: object) -> None:
        super().__init__(folder)
        self._target = make_url(url)
        self._settings = settings
        self._file = folder / "pgbouncer.ini"
        self.url = self.by_way(url)

    def by_way(self, url: str) -> str:
        """The URL of any database of the server, by way of the pooler."""
        return make_url(url).set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def prepare(self) -> None:
        """Write its configuration."""
        target = f"host={self._target.host} port={self._target.port or 5432} user={self._target.username}"
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "max_client_conn": 1000,
        } | self._settings
        lines = ["[databases]", f"* = {target}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        self._file.write_text("\n".join(lines) + "\n")

    def command(self) -> Sequence[str]:
        """What is run."""
        return [program("pgbouncer", "pgbouncer", "usr/sbin"), str(self._file)]

    def answers(self) -> bool:
        """Whether it serves clients."""
        server = PostgreSQLServer(make_url(self.url))
        try:
            server.execute(server.url, "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def pgbouncer(url: str, pool_mode: str = "transaction", **settings: object) -> Iterator[PgBouncer]:
    """A PgBouncer that runs meanwhile.

    Args:
        url: Of a database; every other database of that server can be reached too.
        pool_mode: ``transaction``, ``session`` or ``statement``.
        settings: Of the section ``[pgbouncer]`` of its configuration.
    """
    with (
        folder() as path,
        PgBouncer(path / "pgbouncer", url, pool_mode=pool_mode, **settings).started() as pooler,
    ):
        yield pooler
