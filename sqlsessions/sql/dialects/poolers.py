"""PostgreSQL behind a pooler that hands each transaction to any server connection, such as PgBouncer.

Statements that a driver prepared are then on another server connection than the next transaction. psycopg is
told not to prepare. asyncpg always prepares, by one message, and executes by another: its statements have no
names, so that they leave nothing behind, and are only sent within a transaction, which holds the server
connection in between.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"


class AsyncpgConnect:
    """Opens connections of asyncpg that are fit for what is at the other end.

    Args:
        autocommit: Whether SQLAlchemy begins no transactions by itself.
    """

    def __init__(self, *, autocommit: bool) -> None:
        self._autocommit = autocommit
        self._pooler: bool | None = None

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Connect; behind a pooler, in a transaction for what SQLAlchemy asks first."""
        connect = import_module("asyncpg").connect
        if self._pooler:
            options["statement_cache_size"] = 0
        connection = await connect(*arguments, **options)
        try:
            async with asyncio.timeout(options.get("timeout")):  # the driver's own is over
                if self._pooler is None:
                    self._pooler = await behind_pooler(connection)
                    if self._pooler:
                        await connection.close()
                        return await self(*arguments, **options)
                if self._pooler and self._autocommit:
                    await connection.execute(BEGIN)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def statement_name(self) -> str | None:
        """The name of what SQLAlchemy prepares: none behind a pooler, else asyncpg's choice."""
        return "" if self._pooler else None


async def behind_pooler(connection: Any) -> bool:
    """Whether a connection of asyncpg ends at a pooler.

    There, the process that answers is not the one that was named when the connection was made. It is asked
    by the simple protocol, which takes one message and gives no rows: the answer is an error or none.
    """
    try:
        await connection.execute(f"SELECT 1 / (pg_backend_pid() = {connection.get_server_pid()})::int")
    except Exception as error:
        if getattr(error, "sqlstate", None) != "22012":  # division_by_zero
            raise
        return True
    return False


def configure(engine: AsyncEngine) -> None:
    """Make the connections of an engine of ours fit for a pooler, if there is one."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        driver = connection.driver_connection
        if hasattr(driver, "prepare_threshold"):
            cursor = connection.cursor()
            cursor.execute("SELECT pg_backend_pid()")
            if cursor.fetchone()[0] != driver.info.backend_pid:
                driver.prepare_threshold = None
            cursor.close()
            connection.rollback()  # of what the question began
        elif connection._prepared_statement_name_func() == "":  # noqa: SLF001 (ours)
            connection._prepared_statement_cache = None  # noqa: SLF001 (nothing outlives a transaction)
            if driver.is_in_transaction():
                connection.run_async(lambda driver: driver.execute("COMMIT"))
