"""The command that purges: once, or every so often until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..purging import Purged
from ..records import MAX_BATCH
from .common import Url, run, storage_at


def purge(
    url: Url,
    every: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            show_default=False,
            help="Purge again and again, with so many seconds between, until SIGTERM or Ctrl-C. "
            "Once, if not given, as for cron.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_BATCH, help="Sessions looked at in one batch.")
    ] = 1000,
) -> None:
    """Delete expired sessions, and pieces of large ones that no session needs any more.

    Works in small steps and pauses between them, so that the service hardly notices. One process at a
    time purges a database: while another is at it, this one leaves it to that.

    Exit codes: 0 purged, or left to another process; 1 it failed; 2 wrong usage.
    """
    if every is not None:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("sqlsessions").setLevel(logging.INFO)
        logging.getLogger("sqlsessions.security").setLevel(logging.WARNING)  # not each session that goes
    run(_once(url, batch_size) if every is None else _again(url, every, batch_size), url)


async def _once(url: str, batch_size: int) -> None:
    console = Console(stderr=True)
    async with storage_at(url) as storage:
        if not console.is_terminal:
            purged = await storage.purging(batch_size=batch_size).once()
        else:
            columns = (
                TextColumn("purging"), BarColumn(), MofNCompleteColumn(), TextColumn("sessions"),
                TimeElapsedColumn(),
            )  # fmt: skip
            with Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task("", total=await storage.count_expired())
                show = lambda done: bar.update(task, completed=done.sessions)  # noqa: E731
                purged = await storage.purging(batch_size=batch_size, progress=show).once()
    typer.echo("another process is purging this database" if purged is None else _told(purged))


async def _again(url: str, every: float, batch_size: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with storage_at(url) as storage:
        await storage.info("-")  # a database that is not fit for use ends the command at once
        purging = storage.purging(every=every, batch_size=batch_size)
        try:
            await purging.run()
        except asyncio.CancelledError:
            if not stopped:
                raise
    typer.echo(f"stopped: {_told(purging.statistics.purged)} in {purging.statistics.rounds} rounds")


def _told(purged: Purged) -> str:
    return f"deleted {purged.sessions:,} expired sessions and {purged.chunks:,} pieces of large ones"
