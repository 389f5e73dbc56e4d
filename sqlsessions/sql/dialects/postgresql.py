"""PostgreSQL, through asyncpg or psycopg."""

from __future__ import annotations

from os import dup
from socket import SHUT_RDWR, socket
from typing import Any, ClassVar

from sqlalchemy import URL, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncEngine

from . import poolers
from .base import Backend, Fault, Settings

NOT_NOW = (
    "Connection refused",
    "Connection reset",
    "server closed the connection",
    "No route to host",
    "Network is unreachable",
    "failed to resolve host",
    "connection timeout expired",
    "too many clients",
    "too many connections",
    "no more connections allowed",
    "connection slots are reserved",
    "the database system is",
)
"""What libpq says when connecting may go well a little later."""


class PostgreSQL(Backend):
    drivers: ClassVar = {"asyncpg": "postgresql", "psycopg": "psycopg"}
    modules: ClassVar = ("asyncpg", "psycopg")
    replicas: ClassVar = True
    begin: ClassVar = (poolers.BEGIN,)
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    codes: ClassVar = {
        "42P01": Fault.SCHEMA,  # undefined_table
        "42703": Fault.SCHEMA,  # undefined_column
        "3F000": Fault.SCHEMA,  # invalid_schema_name
        "40001": Fault.RETRY,  # serialization_failure
        "40P01": Fault.RETRY,  # deadlock_detected
        "55P03": Fault.RETRY,  # lock_not_available
        "23505": Fault.RETRY,  # unique_violation: another transaction inserted the row we looked for
        "25006": Fault.REFUSED,  # read_only_sql_transaction: this server is the primary no more
        "53300": Fault.REFUSED,  # too_many_connections
        "57P03": Fault.REFUSED,  # cannot_connect_now: starting up, or shutting down
        "57P01": Fault.LOST,  # admin_shutdown
        "57P02": Fault.LOST,  # crash_shutdown
        "57P05": Fault.LOST,  # idle_session_timeout
        "25P03": Fault.LOST,  # idle_in_transaction_session_timeout
        "25P04": Fault.LOST,  # transaction_timeout
        "08000": Fault.LOST,
        "08001": Fault.REFUSED,  # sqlclient_unable_to_establish_sqlconnection
        "08003": Fault.LOST,
        "08004": Fault.REFUSED,  # sqlserver_rejected_establishment_of_sqlconnection
        "08006": Fault.LOST,
        "08007": Fault.LOST,  # transaction_resolution_unknown
        "08P01": Fault.LOST,  # protocol_violation: a pooler without a server
    }

    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        if url.get_driver_name() == "asyncpg":
            connect = poolers.AsyncpgConnect(autocommit=settings.autocommit)
            return {
                "connect_args": {
                    "timeout": settings.connect_timeout,
                    "async_creator_fn": connect,
                    "prepared_statement_name_func": connect.statement_name,
                }
            }
        return {"connect_args": {"connect_timeout": max(1, round(settings.connect_timeout))}}

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    def opened(self, engine: AsyncEngine, settings: Settings) -> None:
        poolers.configure(engine)

    async def behind_pooler(self, connection: Any) -> bool:
        return hasattr(connection, "get_server_pid") and await poolers.behind_pooler(connection)

    def closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def code(self, error: BaseException) -> object:
        return getattr(error, "sqlstate", None)

    def cut(self, connection: Any) -> None:
        if hasattr(connection, "terminate"):
            connection.terminate()
        elif not connection.closed:  # psycopg waits on the socket itself
            with socket(fileno=dup(connection.fileno())) as shared:
                shared.shutdown(SHUT_RDWR)

    def uncoded(self, error: BaseException) -> Fault:
        # asyncpg's own complaints: the connection is closed, or in no state to be used.
        if type(error).__name__ in ("InterfaceError", "InternalClientError") and self.raised(error):
            return Fault.LOST
        # libpq gives no codes of what kept it from connecting.
        kept_out = type(error).__name__ in ("OperationalError", "ConnectionTimeout")
        if kept_out and any(text in str(error) for text in NOT_NOW):
            return Fault.REFUSED
        return super().uncoded(error)
