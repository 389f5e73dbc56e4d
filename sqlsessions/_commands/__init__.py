"""The commands of ``sqlsessions``: thin calls into the library, errors as one sentence."""

from __future__ import annotations

import typer

from . import purge, tables

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables
    rich_markup_mode=None,  # plain lines, for logs as for people
)


@app.callback()
def describe() -> None:
    """Server-side sessions in a SQL database.

    Exit codes: 0 all is well; 1 it failed, or the tables are out of date; 2 wrong usage.
    """


for command in (tables.upgrade, tables.current, tables.check, tables.sql, purge.purge):
    app.command()(command)
