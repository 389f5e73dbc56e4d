"""How batches reach the database: one file for each driver with a short way, and Core for the others."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..batching.driver import Driver
from ..engine.database import Database

__all__ = ["driver_for"]

_SHORT_WAYS = {"asyncpg": "AsyncpgDriver", "aiosqlite": "AiosqliteDriver"}


def driver_for(database: Database) -> Driver[Any]:
    """The shortest way to a database that there is."""
    name = database.driver if database.engines.direct else "core"
    module, kind = (name, _SHORT_WAYS[name]) if name in _SHORT_WAYS else ("core", "CoreDriver")
    driver: Driver[Any] = getattr(import_module(f".{module}", __name__), kind)(database)
    return driver
