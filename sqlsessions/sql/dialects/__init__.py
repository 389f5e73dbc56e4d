"""Everything that differs between databases: one module for each, names of dialects nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from sqlalchemy import Connection

from .base import HOUR, Dialect, ErrorKind, Settings
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

__all__ = ["DIALECTS", "HOUR", "Dialect", "ErrorKind", "Settings", "migration_lock"]

DIALECTS: dict[str, Dialect] = {
    "postgresql": PostgreSQL(),
    "postgres": PostgreSQL(),
    "sqlite": SQLite(),
    "mysql": MySQL(),
    "mariadb": MySQL(),
}


@contextmanager
def migration_lock(connection: Connection) -> Iterator[None]:
    """Hold the lock of the one process that migrates this database, in a transaction.

    If the connection is in no transaction, one is begun for the block and committed after it. Else
    the block joins it, and committing it stays with the caller.

    Raises:
        StorageUnavailable: If another process held the lock for too long.
    """
    dialect = DIALECTS[connection.dialect.name]
    joined = connection.in_transaction()
    if not joined:
        connection.execution_options(**dialect.migration_options)
    with (
        nullcontext() if joined else connection.begin(),
        dialect.migration_lock(connection, joined=joined),
    ):
        yield
