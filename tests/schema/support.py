"""What several of these tests need."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic.config import Config
from sqlalchemy import Connection, create_engine, inspect, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

ROOT = Path(__file__).parents[2]
OURS = {"sessions", "session_chunks", "session_labels", "session_ends"}
NOTICES = {"session_notices"}
"""On MariaDB and MySQL."""
REVISION = "sqlsessions_0005"
VERSION_TABLE = "sqlsessions_alembic_version"

T = TypeVar("T")


def checkout(url: str | None = None, **options: Any) -> Config:
    """Alembic's configuration of a checkout, as on a command line with ``-x url=``."""
    arguments = Namespace(x=None if url is None else [f"url={url}"])
    return Config(str(ROOT / "alembic.ini"), cmd_opts=arguments, **options)


def file_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


def tables(path: Path) -> set[str]:
    """The tables of a SQLite file."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    return set(inspect(engine).get_table_names())


async def on(url: str, work: Callable[[Connection], T]) -> T:
    """Do something on a connection to a database."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def execute(url: str, *statements: str) -> None:
    """Run statements."""
    await on(url, lambda connection: [connection.execute(text(each)) for each in statements])


def parted(script: str) -> list[str]:
    """The statements of a script, parted as the command-line clients do it."""
    found, delimiter, held = [], ";", ""
    for line in script.splitlines():
        if line.startswith("DELIMITER "):
            delimiter = line.split()[1]
        elif not line.startswith("--"):
            held += f"{line}\n"
            *ended, held = held.split(delimiter)
            found += [each.strip() for each in ended]
    assert (delimiter, held.strip()) == (";", "")
    return [each for each in found if each not in ("BEGIN", "COMMIT")]


async def table_names(url: str) -> set[str]:
    """The tables of a database."""
    return await on(url, lambda connection: set(inspect(connection).get_table_names()))


def dialect(url: str) -> str:
    """Which database a URL is of."""
    return make_url(url).get_backend_name()


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
