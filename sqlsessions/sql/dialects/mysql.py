"""MariaDB and MySQL, through asyncmy or aiomysql."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from typing import Any, ClassVar, cast

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    Integer,
    LargeBinary,
    Table,
    and_,
    case,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import StorageUnavailable
from . import mysql_session
from .base import HOUR, SECOND, Dialect, ErrorKind, Settings
from .urls.mysql import connecting

MIGRATION_WAIT = 600
"""Seconds to wait for another process's migration."""


LACKS_RIGHT = (1142, 1143)
CONFLICT = "conflict at commit"
ERROR_DURING_COMMIT = 1180
HA_ERR_LOCK_DEADLOCK = 149
"""What an error during a commit says of a transaction that Group Replication has rolled back for another member's."""
NO_TLS, NOT_TRUSTED = "no TLS", "not trusted"
SAID_OF_TLS = {"WRONG_VERSION_NUMBER": NO_TLS, "CERTIFICATE_VERIFY_FAILED": NOT_TRUSTED}


class MySQL(Dialect):
    drivers: ClassVar = {"asyncmy": "mysql", "aiomysql": "aiomysql"}
    modules: ClassVar = ("asyncmy", "aiomysql", "pymysql")
    # Under REPEATABLE READ, a locking read of a row that is not there would lock the gap around it.
    begin: ClassVar = ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION")
    begin_own: ClassVar = ("START TRANSACTION",)
    # A row that gets another id is another row to InnoDB. In a caller's transaction only locks on the gaps between
    # rows hold it up. The index is named, lest the whole table be locked.
    moved_rows_escape: ClassVar = True
    key_hint: ClassVar = "FORCE INDEX (PRIMARY)"
    exact_levels: ClassVar = ("REPEATABLE READ", "SERIALIZABLE")
    subject_hint: ClassVar = "FORCE INDEX (ix_sessions_subject)"
    # DDL commits, and waiting for a lock takes no snapshot: a migration needs no options.
    transactional_ddl: ClassVar = False
    # A table, column, index, row or trigger that is there by now, or is not any more; a table that is being changed.
    collisions: ClassVar = frozenset({1050, 1051, 1060, 1061, 1062, 1091, 1213, 1359, 1360, 1412, 1684})
    polled: ClassVar = True
    statement_bytes: ClassVar = mysql_session.STATEMENT_SIZE // 2
    # https://mariadb.com/kb/en/mariadb-error-code-reference/
    codes: ClassVar = {
        1146: ErrorKind.SCHEMA,  # ER_NO_SUCH_TABLE
        1054: ErrorKind.SCHEMA,  # ER_BAD_FIELD_ERROR
        1213: ErrorKind.RETRY,  # ER_LOCK_DEADLOCK
        1205: ErrorKind.LOCKED,  # ER_LOCK_WAIT_TIMEOUT
        1969: ErrorKind.RETRY,  # ER_STATEMENT_TIMEOUT, of MariaDB
        3024: ErrorKind.RETRY,  # ER_QUERY_TIMEOUT, of MySQL
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
        ERROR_DURING_COMMIT: ErrorKind.LOST,
        CONFLICT: ErrorKind.RETRY,
        1927: ErrorKind.LOST,  # ER_CONNECTION_KILLED
        4031: ErrorKind.LOST,  # ER_CLIENT_INTERACTION_TIMEOUT
        NO_TLS: ErrorKind.OTHER,
        NOT_TRUSTED: ErrorKind.OTHER,
        2002: ErrorKind.REFUSED,  # CR_CONNECTION_ERROR
        2003: ErrorKind.REFUSED,  # CR_CONN_HOST_ERROR
        2006: ErrorKind.LOST,  # CR_SERVER_GONE_ERROR
        2013: ErrorKind.LOST,  # CR_SERVER_LOST
        2014: ErrorKind.LOST,  # CR_COMMANDS_OUT_OF_SYNC
        2055: ErrorKind.LOST,  # CR_SERVER_LOST_EXTENDED
    }

    reasons: ClassVar = {
        NO_TLS: "the server has no TLS, which the URL asks for: set it up there, or write ssl-mode=PREFERRED",
        NOT_TRUSTED: "the server's certificate is not signed by the authority of ssl-ca, or is another host's",
        1044: "the user may not use this database: grant it SELECT, INSERT, UPDATE and DELETE there",
        1969: "a statement took longer than max_statement_time: raise it",
        3024: "a statement took longer than max_execution_time: raise it",
        1045: "the database does not accept the user and password",
        1049: "the server has no database of this name",
        1205: "another transaction has locked what the operation needs for longer than innodb_lock_wait_timeout",
        1142: "the user lacks a right on the tables: grant it SELECT, INSERT, UPDATE and DELETE on them",
        1143: "the user lacks a right on the tables: grant it SELECT, INSERT, UPDATE and DELETE on them",
    }

    def reason(self, error: BaseException) -> str | None:
        # "UPDATE command denied to user 'app'@'host' for table `shop`.`sessions`", or for a column "in table".
        denied = re.search(r"([A-Z, ]+)( with .*)? command denied to .* table .*?([\w$]+)\W*$", str(error))
        if denied and self.code(error) in LACKS_RIGHT:
            # MySQL's "SELECT with locking clause" needs a right to change rows.
            right = "UPDATE" if denied[2] else denied[1].strip()
            return f"the user lacks {right} on the table {denied[3]}: grant it that"
        return super().reason(error)

    def options(self, url: URL, settings: Settings) -> tuple[URL, dict[str, Any]]:
        how = connecting(url)
        seconds = how.arguments.get("connect_timeout", settings.connect_timeout)
        set_up = mysql_session.SetUp(settings.largest_value, settings.lock_wait)

        async def connect(**arguments: Any) -> Any:
            # The drivers' own limit ends with the TCP connection, before the server's greeting.
            async with asyncio.timeout(seconds):
                charset = {"charset": mysql_session.CHARSET}
                try:
                    connection = await import_module(url.get_driver_name()).connect(**arguments | charset)
                except Exception as error:
                    # asyncmy speaks TLS to a server that has none; aiomysql leaves it.
                    if how.needs_tls or "WRONG_VERSION_NUMBER" not in str(error):
                        raise
                    return await connect(**arguments | {"ssl": None})
                if how.needs_tls and _transport(connection).get_extra_info("ssl_object") is None:
                    connection.close()
                    raise StorageUnavailable(self.reasons[NO_TLS])
                try:
                    await set_up(connection)
                except BaseException:
                    connection.close()
                    raise
            return connection

        own = {"connect_timeout": seconds, "async_creator_fn": connect}
        return url.set(query={}), {"connect_args": own | dict(how.arguments)}

    def connect_arguments(self, driver: str) -> Collection[str]:
        return {*signature(import_module(driver).connect).parameters, "async_creator_fn"}

    def check_driver(self, connection: Any) -> None:
        mysql_session.refuse_driver(connection)

    async def check_session(self, connection: AsyncConnection, settings: Settings) -> None:
        dialect: Any = connection.dialect
        names = mysql_session.session_names(mariadb=dialect.is_mariadb)
        [row] = await connection.exec_driver_sql(mysql_session.query(names))
        mysql_session.refuse_session(names, row)
        rows = (await connection.exec_driver_sql(mysql_session.SHOW_SERVER)).all()
        mysql_session.refuse_server(rows, mysql_session.least_packet(settings.largest_value))

    async def identity(self, connection: AsyncConnection, schema: str | None) -> object:
        # Of the cluster that the server is in, if it is in one.
        found = await connection.exec_driver_sql("SELECT @@hostname, @@port, @@datadir, DATABASE()")
        server: Any = found.one()
        status = await connection.exec_driver_sql("SHOW STATUS LIKE 'wsrep_cluster_state_uuid'")
        cluster: Any = status.first()
        return cluster[1] if cluster and cluster[1] else tuple(server[:3]), schema or server[3]

    def now(self) -> ColumnElement[int]:
        # Of whole seconds: the functions that know fractions speak of local time, which is ambiguous at times.
        return func.unix_timestamp(type_=BigInteger()) * literal_column("1000000")

    def stamp(self, data: bytes = b"", *, later: int = 0) -> ColumnElement[bytes]:
        time = func.hex(self.now() + literal_column(str(SECOND + later)))
        padded = func.lpad(time, literal_column("16"), literal_column("'0'"))
        stamp: Any = func.unhex(padded, type_=LargeBinary())
        if data:
            stamp = func.concat(stamp, literal(data, LargeBinary()), type_=LargeBinary())
        return cast("ColumnElement[bytes]", stamp)

    def insert(self, table: Table) -> Any:
        return mysql.insert(table)

    def overwriting(self, insert: Any, names: Collection[str]) -> Executable | None:
        statement: Executable = insert.on_duplicate_key_update(
            [(name, insert.inserted[name]) for name in names]
        )
        return statement

    def waiting(self, insert: Any, column: ColumnElement[Any]) -> Executable:
        # A plain INSERT would wait for a shared lock, with which two that waited would wait for each other.
        statement: Executable = insert.on_duplicate_key_update({column.name: insert.inserted[column.name]})
        return statement

    def incoming(self, insert: Any) -> Any:
        return insert.inserted

    def upsert(
        self,
        insert: Any,
        key: ColumnElement[Any],
        assignments: Sequence[tuple[str, ColumnElement[Any]]],
        condition: ColumnElement[bool],
        applied: ColumnElement[bool],
        returning: Sequence[ColumnElement[Any]],
    ) -> Executable:
        # There is no WHERE here, and assignments take effect from left to right: the version goes
        # first, under the condition, and whether it changed is the condition of all others.
        columns = insert.table.c
        (first, version), *others = assignments
        ordered = [(first, case((condition, version), else_=columns[first]))]
        ordered += [(name, case((applied, value), else_=columns[name])) for name, value in others]
        statement: Any = insert.on_duplicate_key_update(ordered)
        written: Executable = statement.returning(*returning) if returning else statement
        return written

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
        if (transport := _transport(connection)) is not None:
            transport.abort()

    def closed(self, connection: Any) -> bool:
        transport = _transport(connection)
        reader = getattr(connection, "_reader", None)  # aiomysql's, whose transport stays open
        return transport is None or transport.is_closing() or getattr(reader, "_eof", False)

    def kind_without_code(self, error: BaseException) -> ErrorKind:
        lost = "not connected" in str(error).lower()
        return ErrorKind.LOST if lost else super().kind_without_code(error)

    def code(self, error: BaseException) -> object:
        said = f"{error} {error.__cause__}"
        for text, code in SAID_OF_TLS.items():
            if text in said:
                return code
        number = error.args[0] if error.args else None
        if number == ERROR_DURING_COMMIT and f"error {HA_ERR_LOCK_DEADLOCK} " in said:
            return CONFLICT
        return number


def _transport(connection: Any) -> Any:
    """The transport of a driver's connection; None if it has none any more."""
    transport = getattr(connection, "_transport", None)  # asyncmy's
    if transport is None and getattr(connection, "_writer", None) is not None:
        transport = connection._writer.transport  # noqa: SLF001 (aiomysql has no other way)
    return transport
