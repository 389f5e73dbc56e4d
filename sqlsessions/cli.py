"""The ``sqlsessions`` command; its commands are in `sqlsessions._commands`."""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Run the command line; the entry point of the ``sqlsessions`` script."""
    try:
        from ._commands import app  # noqa: PLC0415 (typer is optional)
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit('the command line needs typer: pip install "sqlsessions[cli]"')
    logging.getLogger("asyncmy").setLevel(logging.ERROR)  # it warns that MySQL names no primary key
    app(prog_name="sqlsessions")
