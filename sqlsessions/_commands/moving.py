"""`sqlsessions import --from`: copies the sessions of another library."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import typer
from rich.console import Console

from .. import moving
from ..errors import InvalidArgument
from ..moving import Copied, Source, copy_sessions
from ..sql.diagnosis.humanize import counted
from .common import USAGE, Failed, storage_at


class Library(StrEnum):
    """The libraries whose sessions can be imported, and the places where they keep them."""

    DJANGO = "django"
    STARSESSIONS = "starsessions"
    LITESTAR = "litestar"
    AIOHTTP = "aiohttp-session"
    FLASK_REDIS = "flask-session-redis"
    FLASK_TABLE = "flask-session-sqlalchemy"
    CONNECT_PG = "connect-pg-simple"


SOURCES = {
    Library.DJANGO: "DjangoTable",
    Library.STARSESSIONS: "StarsessionsRedis",
    Library.LITESTAR: "LitestarRedis",
    Library.AIOHTTP: "AiohttpSessionRedis",
    Library.FLASK_REDIS: "FlaskSessionRedis",
    Library.FLASK_TABLE: "FlaskSessionTable",
    Library.CONNECT_PG: "ConnectPgTable",
}
"""The names of their sources in `sqlsessions.moving`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the sessions of a library are, as the options say.

    Attributes:
        library: Whose sessions these are.
        url: The database or the Redis.
        options: Other arguments of its source; None are those that were not given.
    """

    library: Library
    url: str
    options: dict[str, Any]


async def copy(place: Place, url: str, *, namespace: str | None, ttl: float | None, dry_run: bool) -> None:
    """Copy sessions, and print how many were copied and how many were not, with the reasons."""
    options = {} if ttl is None else {"ttl": ttl}
    async with storage_at(url, namespace, **options) as storage, _source(place) as source:
        with _status(place.library) as show:
            done = await copy_sessions(source, storage, dry_run=dry_run, progress=show)
    verb = "would import" if dry_run else "imported"
    typer.echo(f"{verb} {counted(done.sessions, 'session')}, {counted(done.bytes, 'byte')} of data")
    if done.present:
        typer.echo(f"{done.present:,} are in the database already, and stay as they are")
    if done.expired:
        typer.echo(f"{done.expired:,} have expired")
    for reason, count in sorted(done.refused.items()):
        typer.echo(f"{count:,} cannot be imported: {reason}")


@asynccontextmanager
async def _source(place: Place) -> AsyncIterator[Source]:
    try:
        made = getattr(moving, SOURCES[place.library])
        client = _client(place.url) if "client" in inspect.signature(made).parameters else None
        source: Source = made(place.url if client is None else client, **_checked(made, place))
    except ImportError as error:
        raise Failed(str(error), USAGE) from error  # which names the extra
    try:
        async with source:
            yield source
    finally:
        if client is not None:
            await client.aclose()


def _checked(made: type[Source], place: Place) -> dict[str, Any]:
    """The options that were given.

    Raises:
        InvalidArgument: If the source does not take one of them, or lacks one.
    """
    known = inspect.signature(made).parameters
    given = {name: value for name, value in place.options.items() if value not in (None, [])}
    for name in given:
        if name not in known:
            raise InvalidArgument(f"{place.library} does not take --{OPTIONS[name]}")
    for name, parameter in known.items():
        if name in OPTIONS and parameter.default is parameter.empty and name not in given:
            raise InvalidArgument(f"{place.library} needs --{OPTIONS[name]}")
    return given


OPTIONS = {"secret_keys": "source-key", "prefix": "prefix", "table": "table", "subject": "subject"}
"""The options for the arguments of sources."""


def _client(url: str) -> Any:
    from redis.asyncio import Redis  # noqa: PLC0415 (it may not be installed)

    try:
        return Redis.from_url(url)
    except ValueError as error:
        raise InvalidArgument("--source must be a URL such as redis://host:6379/0") from error


@contextmanager
def _status(library: Library) -> Iterator[Callable[[Copied], None] | None]:
    """A line with the count on a terminal; None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status(f"importing from {library}") as status:
        yield lambda done: status.update(f"importing from {library}: {counted(done.done, 'session')}")
