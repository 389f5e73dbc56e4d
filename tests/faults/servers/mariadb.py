"""A MariaDB server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar

import pymysql
from sqlalchemy import make_url

from ...databases import MySQLServer
from .process import Process, folder, program


class MariaDB(Process):
    """A MariaDB server, whose user ``root`` needs no password.

    Attributes:
        url: ``mysql://`` without a driver, of no database.
    """

    runs_as: ClassVar = "mysql"
    defaults: ClassVar = {"innodb_buffer_pool_size": "64M", "performance_schema": "OFF"}

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder)
        self.settings = self.defaults | {name: str(value) for name, value in settings.items()}
        self.data = folder / "data"
        self.url = f"mysql://root@127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Make the system tables."""
        install = program("mariadb-install-db", "mariadb-server")
        normal = "--auth-root-authentication-method=normal"
        self.run(install, "--no-defaults", f"--datadir={self.data}", normal, "--skip-test-db")

    def command(self) -> Sequence[str]:
        """What is run."""
        settings = {
            "datadir": self.data,
            "socket": self.folder / "s",
            "pid_file": self.folder / "pid",
            "port": self.port,
            "bind_address": "127.0.0.1",
        } | self.settings
        return [*self.mysqld(), *(f"--{name}={value}" for name, value in settings.items())]

    def mysqld(self) -> Sequence[str]:
        """The server's program, without its settings."""
        return [program("mariadbd", "mariadb-server", "usr/sbin"), "--no-defaults"]

    def answers(self) -> bool:
        """Whether it serves clients."""
        try:
            self.execute("SELECT 1")
        except pymysql.MySQLError:
            return False
        return True

    def execute(self, *statements: str) -> None:
        """Run statements as root, each committed."""
        self._made_by.execute(self._made_by.url, *statements)

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        return self._made_by.create().render_as_string(hide_password=False)

    def value(self, statement: str) -> str | None:
        """The last column of the first row of a query, as text; None if it has no rows."""
        with closing(pymysql.connect(host="127.0.0.1", port=self.port, user="root")) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            row = cursor.fetchone()
        return row and str(row[-1])

    @property
    def _made_by(self) -> MySQLServer:
        return MySQLServer(make_url(self.url))


@contextmanager
def mariadb_server(**settings: object) -> Iterator[MariaDB]:
    """A MariaDB server that runs meanwhile.

    Args:
        settings: Of the server, as in ``my.cnf``.
    """
    with folder() as path, MariaDB(path / "my", **settings).started() as server:
        yield server
