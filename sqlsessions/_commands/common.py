"""Shared by the commands: common options, errors on one line, the database, output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console, RenderableType

from .._digests import Digests
from ..errors import (
    InvalidArgument,
    InvalidArgumentType,
    InvalidSessionId,
    SessionError,
    StorageUnavailable,
)
from ..sql.diagnosis.namespaces import namespaces
from ..sql.engine.database import Database
from ..sql.engine.temporary import TEMPORARY, temporary_engine
from ..sql.engine.urls import async_url
from ..sql.internals import internals_of
from ..sql.storage import SqlSessionStorage

T = TypeVar("T")

FAILURE = 1
USAGE = 2

Url = Annotated[
    str,
    typer.Option(
        envvar="SQLSESSIONS_URL",
        show_default=False,
        metavar="URL",
        help="The database: `postgresql://user@host/name`, `mysql://user@host/name` or "
        "`sqlite:///file.db`. The variable keeps a password out of the list of processes.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        metavar="NAME",
        show_default=False,
        help="Sessions of this namespace; else those of none.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class Failed(Exception):
    """A command failed, for a reason that no `SessionError` reports.

    Args:
        message: The reason, on one line.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILURE) -> None:
        super().__init__(message)
        self.code = code


def run(work: Coroutine[Any, Any, T], url: str) -> T:
    """Run a command's work; a `SessionError` ends the command with one line."""

    async def interruptible() -> T:
        try:
            return await work
        except SessionError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # a driver may make an error of the interruption
                raise asyncio.CancelledError from None
            raise

    try:
        return asyncio.run(interruptible())
    except SessionError as error:
        wrong_usage = isinstance(error, (InvalidArgument, InvalidArgumentType, InvalidSessionId))
        stop(one_line(error, url), USAGE if wrong_usage else FAILURE)
    except Failed as failed:
        stop(str(failed), failed.code)


def stop(message: str, code: int = FAILURE) -> NoReturn:
    """Print a line to standard error, and exit."""
    typer.echo(f"sqlsessions: {message}", err=True)
    raise typer.Exit(code)


def one_line(error: SessionError, url: str) -> str:
    """An error on one line, without the URL's password."""
    message, cause = str(error), error.__cause__
    if cause is None or not isinstance(error, StorageUnavailable):
        return message
    # The driver's message says what to fix. It may quote the password.
    detail = " ".join(str(cause).split())
    password = async_url(url).password
    if password:
        detail = detail.replace(password, "***")
    name = type(cause).__name__
    return f"{message.removesuffix(f' ({name})')}: {detail}" if detail else message


@asynccontextmanager
async def storage_at(
    url: str, namespace: str | None = None, **options: Any
) -> AsyncIterator[SqlSessionStorage]:
    """A storage for a command; it changes no settings of the database."""
    async with (
        temporary_engine(url) as engine,
        SqlSessionStorage(
            engine,
            retry_for=TEMPORARY.retry_for,
            operation_timeout=TEMPORARY.operation_timeout,
            namespace=namespace,
            **options,
        ) as storage,
    ):
        yield storage


async def tell_left_out(storage: SqlSessionStorage, namespace: str | None) -> None:
    """Print a line to standard error if other namespaces than the one of a command have live sessions."""
    parts, own = internals_of(storage), Digests(namespace, None).prefix
    found = await parts.database.run(partial(namespaces, now=parts.repository.now()))
    others = [each for each in found if each != own]
    if not others:
        return
    named = len([each for each in others if each])
    where = [f"{named:,} other namespace{'' if named == 1 else 's'}"] if named else []
    where += ["no namespace"] if None in others else []
    message = f"sessions of {' and of '.join(where)} were left out: each takes a run of its own"
    typer.echo(message, err=True)


@asynccontextmanager
async def database_at(url: str) -> AsyncIterator[Database]:
    """A database for a command that only queries it."""
    async with temporary_engine(url) as engine:
        database = Database(engine, TEMPORARY, {})
        try:
            yield database
        finally:
            await database.engines.aclose()


def show_all(*parts: RenderableType) -> None:
    """Print tables and text, as wide as the terminal; without colours if there is no terminal."""
    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(text: str) -> None:
    """Print a line; exit silently if the pipe is closed."""
    with output():
        typer.echo(text)


@contextmanager
def output() -> Iterator[None]:
    """Exit silently if the pipe is closed while the block prints."""
    try:
        yield
    except BrokenPipeError as error:
        # Otherwise Python reports the error again when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILURE) from error


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation, unless ``yes``; exit if the answer is no, or if there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        stop("cannot ask for confirmation without a terminal: give --yes", USAGE)
    typer.confirm(question, abort=True, err=True)


def cells(columns: Sequence[tuple[int, str]], *texts: str) -> str:
    """A line of a list, by the widths of its columns, of which a negative one aligns to the left."""
    found = []
    for (width, _), text in zip(columns, texts, strict=True):
        padding = " " * (abs(width) - cell_len(text))
        found.append(text + padding if width < 0 else padding + text)
    return "".join(found).rstrip()


def client_line(client: Mapping[str, str] | None) -> str:
    """What is known of a client, on one line."""
    return ", ".join(map(printable, (client or {}).values()))


def as_json(value: Any, *, indent: int | None = None) -> str:
    """Format as JSON, with times as ISO 8601 in UTC; what could control a terminal is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=datetime.isoformat)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def printable(text: str) -> str:
    """Escape the characters that could control a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
