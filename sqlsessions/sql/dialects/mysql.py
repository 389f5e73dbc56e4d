"""MariaDB and MySQL, through asyncmy or aiomysql."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    Table,
    and_,
    case,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql

from ...errors import StorageUnavailable
from .base import HOUR, Dialect, ErrorKind, Settings

MIGRATION_WAIT = 600
"""Seconds to wait for another process's migration."""


class MySQL(Dialect):
    drivers: ClassVar = {"asyncmy": "mysql", "aiomysql": "aiomysql"}
    modules: ClassVar = ("asyncmy", "aiomysql", "pymysql")
    # Under REPEATABLE READ, a locking read of a row that is not there would lock the gap around it.
    begin: ClassVar = ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION")
    # DDL commits, and waiting for a lock takes no snapshot: a migration needs no options.
    transactional_ddl: ClassVar = False
    # https://mariadb.com/kb/en/mariadb-error-code-reference/
    codes: ClassVar = {
        1146: ErrorKind.SCHEMA,  # ER_NO_SUCH_TABLE
        1054: ErrorKind.SCHEMA,  # ER_BAD_FIELD_ERROR
        1213: ErrorKind.RETRY,  # ER_LOCK_DEADLOCK
        1205: ErrorKind.RETRY,  # ER_LOCK_WAIT_TIMEOUT
        1020: ErrorKind.RETRY,  # ER_CHECKREAD
        1412: ErrorKind.RETRY,  # ER_TABLE_DEF_CHANGED: "please retry transaction"
        3101: ErrorKind.RETRY,  # ER_TRANSACTION_ROLLBACK_DURING_COMMIT, of Group Replication
        1062: ErrorKind.RETRY,  # ER_DUP_ENTRY: another transaction inserted the row we looked for
        1047: ErrorKind.REFUSED,  # ER_UNKNOWN_COM_ERROR: a Galera node that has lost the others
        1290: ErrorKind.REFUSED,  # ER_OPTION_PREVENTS_STATEMENT: read_only, after a switch of primaries
        1792: ErrorKind.REFUSED,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
        1836: ErrorKind.REFUSED,  # ER_READ_ONLY_MODE
        1040: ErrorKind.REFUSED,  # ER_CON_COUNT_ERROR
        1203: ErrorKind.REFUSED,  # ER_TOO_MANY_USER_CONNECTIONS
        1226: ErrorKind.REFUSED,  # ER_USER_LIMIT_REACHED
        1053: ErrorKind.LOST,  # ER_SERVER_SHUTDOWN
        1180: ErrorKind.LOST,  # ER_ERROR_DURING_COMMIT
        1927: ErrorKind.LOST,  # ER_CONNECTION_KILLED
        2002: ErrorKind.REFUSED,  # CR_CONNECTION_ERROR
        2003: ErrorKind.REFUSED,  # CR_CONN_HOST_ERROR
        2006: ErrorKind.LOST,  # CR_SERVER_GONE_ERROR
        2013: ErrorKind.LOST,  # CR_SERVER_LOST
        2014: ErrorKind.LOST,  # CR_COMMANDS_OUT_OF_SYNC
        2055: ErrorKind.LOST,  # CR_SERVER_LOST_EXTENDED
    }

    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        async def connect(**arguments: Any) -> Any:
            # The drivers' own limit ends with the TCP connection, before the server's greeting.
            async with asyncio.timeout(settings.connect_timeout):
                return await import_module(url.get_driver_name()).connect(**arguments)

        charset = {} if "charset" in url.query else {"charset": "utf8mb4"}
        return {"connect_args": charset | {"async_creator_fn": connect}}

    def insert(self, table: Table) -> Any:
        return mysql.insert(table)

    def incoming(self, insert: Any) -> Any:
        return insert.inserted

    def upsert(
        self,
        insert: Any,
        key: ColumnElement[Any],
        assignments: Sequence[tuple[str, ColumnElement[Any]]],
        condition: ColumnElement[bool],
        returning: Sequence[ColumnElement[Any]],
    ) -> Executable:
        # There is no WHERE here, and assignments take effect from left to right: the version goes
        # first, under the condition, and whether it changed is the condition of all others.
        columns = insert.table.c
        fresh = insert.inserted.version
        won = columns.version == fresh
        ordered = [("version", case((condition, fresh), else_=columns.version))]
        ordered += [
            (name, case((won, value), else_=columns[name]))
            for name, value in assignments
            if name != "version"
        ]
        statement: Executable = insert.on_duplicate_key_update(ordered).returning(*returning)
        return statement

    def hour(self, time: ColumnElement[int | None]) -> ColumnElement[int | None]:
        hour: ColumnElement[Any] = time.op("DIV", return_type=Integer())(literal_column(str(HOUR)))
        return hour

    def subject_is(self, column: ColumnElement[str | None], subject: str) -> ColumnElement[bool]:
        # utf8mb4_bin pads with spaces when it compares; LENGTH counts bytes.
        return and_(column == subject, func.length(column) == len(subject.encode()))

    @contextmanager
    def migration_lock(self, connection: Connection, *, joined: bool) -> Iterator[None]:
        # Locks have names of up to 64 characters, which the whole server shares.
        name = func.concat("sqlsessions.", func.left(func.sha2(func.database(), 256), 40))
        if connection.execute(select(func.get_lock(name, MIGRATION_WAIT))).scalar() != 1:
            raise StorageUnavailable(
                f"another process has been migrating this database for {MIGRATION_WAIT} seconds"
            )
        try:
            yield
            # DDL has ended any transaction; what came after it must be seen by the next to get the lock.
            connection.exec_driver_sql("COMMIT")
        finally:
            if not connection.invalidated:
                connection.execute(select(func.release_lock(name)))

    def cut(self, connection: Any) -> None:
        transport = getattr(connection, "_transport", None)  # asyncmy's
        if transport is None and getattr(connection, "_writer", None) is not None:
            transport = connection._writer.transport  # noqa: SLF001 (aiomysql has no other way)
        if transport is not None:
            transport.abort()

    def code(self, error: BaseException) -> object:
        return error.args[0] if error.args else None
