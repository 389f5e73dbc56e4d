"""Temporary engines, for commands and migrations: they leave the database's settings alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ...errors import InvalidArgument, SchemaOutOfDate, SessionError
from ..dialects import DIALECTS, Settings
from ..dialects.sqlite import in_memory, missing_file, refuse_named_memory
from .options import for_engine
from .pool import refuse_arguments
from .retry import raise_translated
from .urls import async_url

TEMPORARY = Settings(
    pool_size=2,
    pool_timeout=30.0,
    connect_timeout=10.0,
    synchronous="FULL",
    busy_timeout=5.0,
    retry_for=2.0,
    operation_timeout=None,
)
"""A person waits: give up soon on a database that is away, but let counting take its time."""


@asynccontextmanager
async def temporary_engine(
    url: str | URL, settings: Settings | None = None, *, make: bool = False, **options: Any
) -> AsyncIterator[AsyncEngine]:
    """An engine for a database, disposed of after the block; one connection was tried.

    Unlike the engines that a storage opens, it does not set SQLite's journal mode, which would stay set.
    Database errors come out of the block as ours.

    Args:
        url: The database.
        settings: How to connect; `TEMPORARY` unless given.
        make: Whether a SQLite file may be made.
        options: More arguments of `create_async_engine`.

    Raises:
        SchemaOutOfDate: If there is no such SQLite file, and none may be made.
        InvalidArgument: If the URL is of no supported database, or has an option that its driver does
            not take.
        StorageUnavailable: If the database cannot be reached.
    """
    url = async_url(url)
    refuse_named_memory(url)
    if in_memory(url):
        raise InvalidArgument("url names a new database in memory: name a file, as in sqlite:///sessions.db")
    if not make and (file := missing_file(url)):
        raise SchemaOutOfDate(
            f"there is no file {str(file)!r}: correct the URL, or run `sqlsessions upgrade` to make it"
        )
    dialect = DIALECTS[url.get_backend_name()]
    plain, arguments = for_engine(dialect, url, settings or TEMPORARY, options)
    engine = create_async_engine(plain, hide_parameters=True, **arguments)
    if dialect.remote:
        dialect.opened(engine, settings or TEMPORARY)
    try:
        try:
            async with engine.connect():
                pass
        except Exception as error:
            refuse_arguments(error, dialect)
            raise
        yield engine
    except SessionError:
        raise
    except Exception as error:  # noqa: BLE001 (raised again, as ours if it is the database's)
        raise_translated(dialect, error)
    finally:
        await engine.dispose()
