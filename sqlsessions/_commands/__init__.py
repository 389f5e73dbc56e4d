"""The commands of ``sqlsessions``: thin calls into the library, with errors on one line."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from . import archive, keys, purge, reports, sessions, subjects, tables

__all__ = ["app"]

COMMANDS: dict[str, list[Callable[..., Any]]] = {
    "Tables": [tables.upgrade, tables.downgrade, tables.current, tables.check, tables.sql],
    "Sessions": [sessions.list_, sessions.show, sessions.revoke, subjects.erase],
    "Moving": [archive.export, archive.import_],
    "Encryption": [keys.new_key, keys.rekey],
    "Upkeep": [purge.purge, reports.stats, reports.doctor],
}
"""By their panel of ``sqlsessions --help``, in its order."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would show local variables
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"sqlsessions {version('sqlsessions')}")
        raise typer.Exit


@app.callback()
def describe(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    """Server-side sessions in a SQL database.

    Every command takes the database from `--url` or from the variable `SQLSESSIONS_URL`, and never
    prints a password. `sqlsessions COMMAND --help` describes each command.

    Results go to standard output, everything else to standard error. An error is one line, with an
    exit code:

    | Exit code | |
    |---|---|
    | 0 | done |
    | 1 | it failed, the database has a problem, or you answered no |
    | 2 | wrong usage: an unknown option, an invalid URL |
    | 130 | interrupted with Ctrl-C |
    """


def name_of(command: Callable[..., Any]) -> str:
    """The name of a command on the command line."""
    return command.__name__.rstrip("_").replace("_", "-")


for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(name_of(command), rich_help_panel=panel)(command)
