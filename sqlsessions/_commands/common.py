"""What commands share: the option that names the database, and errors as one sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from ..errors import InvalidArgument, InvalidArgumentType, SessionError
from ..sql.urls import async_url

T = TypeVar("T")

FAILURE = 1
USAGE = 2

Url = Annotated[
    str,
    typer.Option(
        envvar="SQLSESSIONS_URL",
        show_default=False,
        help="The database, for instance postgresql://user@host/name, mysql://user@host/name or "
        "sqlite:///file.db. The variable keeps a password out of the list of processes.",
    ),
]


def run(work: Coroutine[Any, Any, T], url: str) -> T:
    """Run what a command does; an error of ours ends the command with one line."""
    try:
        return asyncio.run(work)
    except SessionError as error:
        fail(error, url)


def fail(error: SessionError, url: str) -> NoReturn:
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
