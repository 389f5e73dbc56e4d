"""How batches reach the database: one file for each driver with a short way, and Core for the others."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..batching.driver import Driver
from ..engine.database import Database

__all__ = ["driver_for"]

_SHORT_WAYS = {
    "asyncpg": ("asyncpg", "AsyncpgDriver"),
    "aiosqlite": ("aiosqlite", "AiosqliteDriver"),
    "asyncmy": ("asyncmy", "AsyncmyDriver"),
    "aiomysql": ("asyncmy", "AsyncmyDriver"),
}
_ANY = ("core", "CoreDriver")
_OWN_ENGINES_ONLY = ("asyncmy",)
"""Ways that rely on how we set up connections."""


def driver_for(database: Database) -> Driver[Any]:
    """The shortest way to a database that there is."""
    engines = database.engines
    module, kind = _SHORT_WAYS.get(database.driver, _ANY) if engines.direct else _ANY
    if module in _OWN_ENGINES_ONLY and not engines.owned:
        module, kind = _ANY
    driver: Driver[Any] = getattr(import_module(f".{module}", __name__), kind)(database)
    return driver
