"""Commands for the tables: create, upgrade, downgrade and check them, show their SQL."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import schema
from .common import Url, Yes, confirm, run


def upgrade(url: Url) -> None:
    """Create the tables, or bring them up to date.

    Run it when you deploy a new version of sqlsessions, before the service starts. It is safe to run
    on several hosts at once, and again after an interruption.

    Exit codes: **0** the tables are up to date, **1** it failed, **2** wrong usage.
    """

    async def upgraded() -> str | None:
        await schema.upgrade(url)
        return await schema.current(url)

    typer.echo(f"the tables are up to date, at revision {run(upgraded(), url)}")


def downgrade(
    url: Url,
    revision: Annotated[
        str,
        typer.Argument(
            metavar="REVISION",
            show_default=False,
            help="The revision to go to; `base` drops the tables and all sessions.",
        ),
    ],
    yes: Yes = False,
) -> None:
    """Take the tables back to an earlier revision, which may lose sessions.

    For a rollback of sqlsessions to an older version: downgrade first, with the newer version still
    installed. Asks for confirmation.

        sqlsessions downgrade sqlsessions_0001

    Exit codes: **0** done, **1** it failed or you answered no, **2** wrong usage.
    """

    async def downgraded() -> str | None:
        await schema.downgrade(url, revision)
        return await schema.current(url)

    confirm(
        "Downgrade the tables? Columns of newer revisions are lost; base drops the tables and all sessions.",
        yes=yes,
    )
    typer.echo(f"the tables are at revision {run(downgraded(), url) or 'none'}")


def current(url: Url) -> None:
    """Show the revision of the tables; "none" if they were never upgraded.

    Exit codes: **0** shown, **1** it failed, **2** wrong usage.
    """
    typer.echo(run(schema.current(url), url) or "none")


def check(url: Url) -> None:
    """Verify that the tables fit this version of sqlsessions. Changes nothing.

    Useful as a step of a deployment, or before a service starts.

    Exit codes: **0** they fit, **1** they are missing, out of date, or could not be checked, **2** wrong
    usage.
    """
    run(schema.check(url), url)
    typer.echo("the tables are up to date")


def sql(url: Url) -> None:
    """Print the SQL that creates the tables in an empty database, without connecting to it.

    For an administrator to read and run. Of the URL, only the kind of database counts.

    Exit codes: **0** printed, **1** it failed, **2** wrong usage.
    """
    typer.echo(run(schema.script(url), url), nl=False)
