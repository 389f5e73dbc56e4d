"""The commands of ``sqlsessions``: thin calls into the library, errors as one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from . import schema
from .errors import InvalidArgument, InvalidArgumentType, SessionError
from .sql.urls import async_url

T = TypeVar("T")

FAILURE = 1
USAGE = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables
    rich_markup_mode=None,  # plain lines, for logs as for people
)

Url = Annotated[
    str,
    typer.Option(
        envvar="SQLSESSIONS_URL",
        show_default=False,
        help="The database, for instance postgresql://user@host/name, mysql://user@host/name or "
        "sqlite:///file.db. The variable keeps a password out of the list of processes.",
    ),
]


@app.callback()
def describe() -> None:
    """Server-side sessions in a SQL database.

    Exit codes: 0 all is well; 1 it failed, or the tables are out of date; 2 wrong usage.
    """


@app.command()
def upgrade(url: Url) -> None:
    """Make the tables, or bring them up to date.

    Safe to run from several hosts at once, and again after it was cut off.

    Exit codes: 0 the tables are up to date; 1 it failed; 2 wrong usage.
    """

    async def upgraded() -> str | None:
        await schema.upgrade(url)
        return await schema.current(url)

    typer.echo(f"the tables are up to date, at revision {_run(upgraded(), url)}")


@app.command()
def current(url: Url) -> None:
    """Show the revision of the tables; "none" if they were never upgraded.

    Exit codes: 0 shown; 1 it failed; 2 wrong usage.
    """
    typer.echo(_run(schema.current(url), url) or "none")


@app.command()
def check(url: Url) -> None:
    """Make sure that the tables fit this version of sqlsessions. Changes nothing.

    Exit codes: 0 they fit; 1 they are missing, out of date, or could not be checked; 2 wrong usage.
    """
    _run(schema.check(url), url)
    typer.echo("the tables are up to date")


@app.command()
def sql(url: Url) -> None:
    """Print the SQL that makes the tables in an empty database. Does not connect to it.

    Exit codes: 0 printed; 1 it failed; 2 wrong usage.
    """
    typer.echo(_run(schema.script(url), url), nl=False)


def _run(work: Coroutine[Any, Any, T], url: str) -> T:
    try:
        return asyncio.run(work)
    except SessionError as error:
        _fail(error, url)


def _fail(error: SessionError, url: str) -> NoReturn:
    """Say what went wrong in one line, and exit."""
    wrong_usage = isinstance(error, (InvalidArgument, InvalidArgumentType))
    message = str(error)
    if error.__cause__ is not None and not wrong_usage:
        # The driver's own words say what to mend; should they quote the password, hide it.
        detail = " ".join(str(error.__cause__).split())
        password = async_url(url).password
        message += f": {detail.replace(password, '***') if password else detail}"
    typer.echo(f"sqlsessions: {message}", err=True)
    raise typer.Exit(USAGE if wrong_usage else FAILURE)
