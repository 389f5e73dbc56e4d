"""What the figures were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

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
