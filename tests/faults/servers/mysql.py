"""A MySQL server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from .mariadb import MariaDB
from .process import folder, missing

MYSQL = Path(os.environ.get("SQLSESSIONS_MYSQL", "/var/tmp/sqlsessions/mysql"))  # noqa: S108 (made by root)
"""What `.ci/mysql` unpacked."""


class MySQL(MariaDB):
    """A MySQL server, whose user ``root`` needs no password."""

    runs_as: ClassVar = "nobody"
    defaults: ClassVar = MariaDB.defaults | {"mysqlx": "OFF", "secure_file_priv": "NULL"}

    def prepare(self) -> None:
        """Make the system tables."""
        self.run(*self.mysqld(), "--initialize-insecure", f"--datadir={self.data}")

    def mysqld(self) -> Sequence[str]:
        """The server's program, without its settings."""
        if not (found := MYSQL / "mysqld").exists():
            missing(f"no {found}, which .ci/mysql makes")
        return [str(found)]


@contextmanager
def mysql_server(**settings: object) -> Iterator[MySQL]:
    """A MySQL server that runs meanwhile.

    Args:
        settings: Of the server, as in ``my.cnf``.
    """
    with folder() as path, MySQL(path / "my", **settings).started() as server:
        yield server
