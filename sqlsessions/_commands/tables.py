"""Commands for the tables: make them, check them, show their SQL."""

from __future__ import annotations

import typer

from .. import schema
from .common import Url, run


def upgrade(url: Url) -> None:
    """Make the tables, or bring them up to date.

    Safe to run from several hosts at once, and again after it was cut off.

    Exit codes: 0 the tables are up to date; 1 it failed; 2 wrong usage.
    """

    async def upgraded() -> str | None:
        await schema.upgrade(url)
        return await schema.current(url)

    typer.echo(f"the tables are up to date, at revision {run(upgraded(), url)}")


def current(url: Url) -> None:
    """Show the revision of the tables; "none" if they were never upgraded.

    Exit codes: 0 shown; 1 it failed; 2 wrong usage.
    """
    typer.echo(run(schema.current(url), url) or "none")


def check(url: Url) -> None:
    """Make sure that the tables fit this version of sqlsessions. Changes nothing.

    Exit codes: 0 they fit; 1 they are missing, out of date, or could not be checked; 2 wrong usage.
    """
    run(schema.check(url), url)
    typer.echo("the tables are up to date")


def sql(url: Url) -> None:
    """Print the SQL that makes the tables in an empty database. Does not connect to it.

    Exit codes: 0 printed; 1 it failed; 2 wrong usage.
    """
    typer.echo(run(schema.script(url), url), nl=False)
