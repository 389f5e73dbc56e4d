"""PostgreSQL, through asyncpg or psycopg."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import URL, Table
from sqlalchemy.dialects import postgresql

from .base import Backend, Fault, Settings


class PostgreSQL(Backend):
    drivers: ClassVar = {"asyncpg": "postgresql", "psycopg": "psycopg"}
    modules: ClassVar = ("asyncpg", "psycopg")
    begin: ClassVar = ("BEGIN ISOLATION LEVEL READ COMMITTED",)
    # https://www.postgresql.org/docs/current/errcodes-appendix.html
    codes: ClassVar = {
        "42P01": Fault.SCHEMA,  # undefined_table
        "42703": Fault.SCHEMA,  # undefined_column
        "3F000": Fault.SCHEMA,  # invalid_schema_name
        "40001": Fault.RETRY,  # serialization_failure
        "40P01": Fault.RETRY,  # deadlock_detected
        "55P03": Fault.RETRY,  # lock_not_available
        "23505": Fault.RETRY,  # unique_violation: another transaction inserted the row we looked for
        "57P01": Fault.LOST,  # admin_shutdown
        "57P02": Fault.LOST,  # crash_shutdown
        "08000": Fault.LOST,
        "08003": Fault.LOST,
        "08006": Fault.LOST,
    }

    def options(self, url: URL, settings: Settings) -> dict[str, Any]:
        if url.get_driver_name() == "asyncpg":
            return {"connect_args": {"timeout": settings.connect_timeout}}
        return {"connect_args": {"connect_timeout": max(1, round(settings.connect_timeout))}}

    def insert(self, table: Table) -> Any:
        return postgresql.insert(table)

    def closed(self, connection: Any) -> bool:
        return bool(connection.is_closed())

    def code(self, error: BaseException) -> object:
        return getattr(error, "sqlstate", None)

    def fault(self, error: BaseException) -> Fault:
        # asyncpg's own complaints have no code: the connection is closed, or in no state to be used.
        if type(error).__name__ in ("InterfaceError", "InternalClientError") and self.raised(error):
            return Fault.LOST
        return super().fault(error)
