"""What the figures were measured with."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "sqlsessions",
    "SQLAlchemy",
    "asyncpg",
    "aiosqlite",
    "psycopg",
    "asyncmy",
    "uvloop",
    "redis",
    "valkey-glide",
    "coredis",
    "starsessions",
    "litestar",
    "advanced-alchemy",
    "Django",
)


def now() -> dict[str, Any]:
    """The day, and how busy the machine is before something is measured."""
    return {"measured": datetime.now(UTC).date().isoformat(), "load": round(os.getloadavg()[0], 1)}


def environment() -> dict[str, str]:
    """Names and versions."""
    found = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
