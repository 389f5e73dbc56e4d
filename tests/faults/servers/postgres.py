"""A PostgreSQL server."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import psycopg
from sqlalchemy import make_url

from ...databases import PostgreSQLServer
from .process import Process, folder, program

BINARIES = "usr/lib/postgresql/*/bin"
QUICK = {"shared_buffers": "32MB", "max_connections": "200"}


class Postgres(Process):
    """A PostgreSQL server, whose superuser ``postgres`` needs no password.

    Attributes:
        url: ``postgresql://`` without a driver, of the database ``postgres``.
    """

    runs_as: ClassVar = "nobody"
    ends_on: ClassVar = signal.SIGINT  # without waiting for clients

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder)
        self.settings = QUICK | {name: str(value) for name, value in settings.items()}
        self.data = folder / "data"
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def prepare(self) -> None:
        """Make a cluster of databases."""
        initdb = program("initdb", "postgresql", BINARIES)
        self.run(initdb, "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")

    def command(self) -> Sequence[str]:
        """What is run."""
        postgres = program("postgres", "postgresql", BINARIES)
        network = {"listen_addresses": "127.0.0.1", "port": str(self.port)}
        network["unix_socket_directories"] = str(self.folder)
        settings = [f"{name}={value}" for name, value in (network | self.settings).items()]
        return [postgres, "-D", str(self.data), *(word for one in settings for word in ("-c", one))]

    def answers(self) -> bool:
        """Whether it serves clients."""
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser, each committed."""
        self._made_by.execute(self._made_by.url, *statements)

    def value(self, statement: str) -> str | None:
        """The first column of the first row of a query, as text; None if it has no rows."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            row = connection.execute(statement).fetchone()
        return str(row[0]) if row else None

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        return self._made_by.create().render_as_string(hide_password=False)

    def clear(self, url: str) -> None:
        """Delete every session of a database, whichever way its URL takes."""
        self._made_by.clear(make_url(url).set(port=self.port))

    @property
    def _made_by(self) -> PostgreSQLServer:
        return PostgreSQLServer(make_url(self.url))


@contextmanager
def postgres_server(**settings: object) -> Iterator[Postgres]:
    """A PostgreSQL server that runs meanwhile, with an empty database.

    Args:
        settings: Of the server, as in ``postgresql.conf``.
    """
    with folder() as path, Postgres(path / "pg", **settings).started() as server:
        yield server
