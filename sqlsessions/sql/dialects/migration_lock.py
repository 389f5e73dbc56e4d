"""One migration at a time: what each database has for a lock around one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, func, select

from ...errors import StorageUnavailable

TRANSACTIONAL_DDL = frozenset({"postgresql", "sqlite"})
"""The databases that roll DDL back with its transaction."""

POSTGRESQL_KEY = 0x73716C7365737369
"""Our advisory lock, one for each database: "sqlsessi" as a number."""
MYSQL_WAIT = 600
"""Seconds to wait for another process's migration."""


@contextmanager
def migration_lock(connection: Connection) -> Iterator[None]:
    """Hold the lock of the one process that migrates this database, in a transaction.

    If the connection is in no transaction, one is begun for the block and committed after it. Else
    the block joins it, and committing it stays with who began it.

    Raises:
        StorageUnavailable: If another process held the lock for too long.
    """
    joined = connection.in_transaction()
    if not joined:
        connection.execution_options(**_OPTIONS.get(connection.dialect.name, {}))
    lock = _LOCKS[connection.dialect.name]
    with nullcontext() if joined else connection.begin(), lock(connection, joined):
        yield


@contextmanager
def _postgresql(connection: Connection, _joined: bool) -> Iterator[None]:
    # Bound to the transaction, so that it works behind a pooler and cannot be left behind.
    connection.execute(select(func.pg_advisory_xact_lock(POSTGRESQL_KEY)))
    yield


@contextmanager
def _sqlite(connection: Connection, joined: bool) -> Iterator[None]:
    driver = connection.connection.driver_connection
    assert driver is not None
    if driver.in_transaction and not joined:  # begun by an event of the caller's engine, deferred
        connection.exec_driver_sql("ROLLBACK")
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    yield


@contextmanager
def _mysql(connection: Connection, _joined: bool) -> Iterator[None]:
    # Locks have names of up to 64 characters, which the whole server shares.
    name = func.concat("sqlsessions.", func.md5(func.database()))
    if connection.execute(select(func.get_lock(name, MYSQL_WAIT))).scalar() != 1:
        raise StorageUnavailable(f"another process has been migrating this database for {MYSQL_WAIT} seconds")
    try:
        yield
        # DDL has ended any transaction; what came after it must be seen by the next to get the lock.
        connection.exec_driver_sql("COMMIT")
    finally:
        if not connection.invalidated:
            connection.execute(select(func.release_lock(name)))


_Lock = Callable[[Connection, bool], AbstractContextManager[None]]
_LOCKS: dict[str, _Lock] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
    "mysql": _mysql,
    "mariadb": _mysql,
}
# A transaction also on an engine in autocommit, and one that sees what was committed before the lock
# was granted. MySQL needs neither: DDL commits, and waiting for a lock takes no snapshot.
_OPTIONS: dict[str, dict[str, Any]] = {
    "postgresql": {"isolation_level": "READ COMMITTED"},
    "sqlite": {"isolation_level": "SERIALIZABLE"},
}
