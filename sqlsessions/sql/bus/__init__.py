"""The buses of databases: one module for each way to learn what other processes changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL

from ...cache.bus import Bus
from ...errors import InvalidArgument
from ..dialects import Settings
from ..dialects.sqlite import database_file
from ..engine.database import Database
from .polling import PollingBus
from .postgresql import PostgreSQLBus
from .sqlite import SQLiteBus

__all__ = ["bus_of"]


def bus_of(
    database: Database, direct_url: str | URL | None, settings: Settings, engine_options: Mapping[str, Any]
) -> Bus | None:
    """The bus of a database, which does nothing until it is used; None if the database has none.

    Args:
        database: Where the sessions are.
        direct_url: The same server without a pooler in between.
        settings: How to open connections.
        engine_options: More arguments of `create_async_engine`.

    Raises:
        InvalidArgument: If there is a URL that no bus has a use for.
    """
    kind = database.url.get_backend_name()
    if kind == "postgresql":
        direct = database if direct_url is None else Database(direct_url, settings, engine_options)
        return PostgreSQLBus(database, direct)
    if direct_url is not None:
        raise InvalidArgument("direct_url needs a PostgreSQL database: no other sends notices")
    if database.dialect.polled:
        return PollingBus(database)
    if kind == "sqlite" and (file := database_file(database.url)) is not None:
        return SQLiteBus(database, file)
    return None
