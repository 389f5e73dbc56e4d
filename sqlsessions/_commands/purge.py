"""The command that purges: once, or at intervals until it is stopped."""

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
from ..sql.diagnosis.humanize import counted
from .common import Url, run, storage_at


def purge(
    url: Url,
    every: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            show_default=False,
            help="Purge at intervals of so many seconds, until SIGTERM or Ctrl-C. "
            "If not given, purge once, as for cron.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_BATCH, help="Sessions examined in one batch.")
    ] = 1000,
) -> None:
    """Delete expired sessions, and chunks of large ones that no session needs any more.

    Works in small steps with pauses between them, to disturb the service as little as possible. One
    process at a time purges a database: if another one is purging, this one does nothing.

    Exit codes: 0 purged, or another process is purging; 1 it failed; 2 wrong usage.
    """
    if every is not None:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("sqlsessions").setLevel(logging.INFO)
        logging.getLogger("sqlsessions.security").setLevel(logging.WARNING)  # not a line for each session
    run(_once(url, batch_size) if every is None else _repeatedly(url, every, batch_size), url)


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
    typer.echo("another process is purging this database" if purged is None else _summary(purged))


async def _repeatedly(url: str, every: float, batch_size: int) -> None:
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
        await storage.info("-")  # an unusable database ends the command at once
        purging = storage.purging(every=every, batch_size=batch_size)
        try:
            await purging.run()
        except asyncio.CancelledError:
            if not stopped:
                raise
    typer.echo(
        f"stopped: {_summary(purging.statistics.purged)} in {counted(purging.statistics.rounds, 'round')}"
    )


def _summary(purged: Purged) -> str:
    return f"deleted {counted(purged.sessions, 'expired session')} and {counted(purged.chunks, 'chunk')} of large ones"
