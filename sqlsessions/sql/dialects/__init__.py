"""Everything that differs between databases: one module for each, names of dialects nowhere else."""

from __future__ import annotations

from .base import HOUR, Backend, Fault, Settings
from .mysql import MySQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

__all__ = ["BACKENDS", "HOUR", "Backend", "Fault", "Settings"]

BACKENDS: dict[str, Backend] = {
    "postgresql": PostgreSQL(),
    "postgres": PostgreSQL(),
    "sqlite": SQLite(),
    "mysql": MySQL(),
    "mariadb": MySQL(),
}
