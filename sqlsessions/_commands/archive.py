"""The commands that move all sessions: out into a file, and in from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..archive import Exported, Imported, export_sessions, import_sessions
from ..sql.diagnosis.humanize import size
from .common import Failed, Url, run, storage_at

STANDARD = Path("-")


def export(
    file: Annotated[Path, typer.Argument(help="Where to; `-` is standard output.")],
    url: Url,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an export that was broken off.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, or a partial one.")] = False,
) -> None:
    """Write all live sessions to a file, to import them into another database.

    The service may go on meanwhile. Until it is whole, the file has `.partial` after its name. It holds
    the sessions' data, so only you can read it. Keep the digest that is printed apart from the file:
    `import --digest` then makes sure that nobody has changed it.

    Exit codes: 0 the file is whole; 1 it failed, and `--resume` goes on; 2 wrong usage.
    """
    run(_export(file, url, resume=resume, force=force), url)


def import_(
    file: Annotated[Path, typer.Argument(help="A file that `export` made; `-` is standard input.")],
    url: Url,
    *,
    digest: Annotated[
        str | None,
        typer.Option(metavar="SHA256", show_default=False, help="Refuse a file with another digest."),
    ] = None,
) -> None:
    """Write the sessions of a file into a database. Nobody is logged out by the move.

    The file is checked to its end before anything is written. Sessions that are there already stay, in
    the newer version. If it is broken off, run it again. Sessions that ended since the export come back:
    import before the service uses the new database.

    Exit codes: 0 all are there; 1 it failed, and running it again goes on; 2 wrong usage.
    """
    run(_import(file, url, digest), url)


async def _export(file: Path, url: str, *, resume: bool, force: bool) -> None:
    async with storage_at(url) as storage:
        with _files(file), _bar("exporting") as show:
            done = await export_sessions(storage, file, resume=resume, force=force, progress=show)
    typer.echo(f"exported {_told(done)}", err=file == STANDARD)
    typer.echo(f"digest {done.digest}", err=file == STANDARD)


async def _import(file: Path, url: str, digest: str | None) -> None:
    async with storage_at(url) as storage:
        with _files(file), _bar("importing") as show:
            done = await import_sessions(storage, file, digest=digest, progress=show)
    typer.echo(f"imported {_told(done)}")
    for count, what in (
        (done.present, "were there already"),
        (done.newer, "were there in a newer version, which stays"),
        (done.expired, "have expired since"),
    ):
        if count:
            typer.echo(f"{count:,} {what}")
    typer.echo(f"digest {done.digest}")


def _told(done: Exported | Imported) -> str:
    return f"{done.sessions:,} sessions, {done.bytes:,} bytes of data"


@contextmanager
def _files(file: Path) -> Iterator[None]:
    """What goes wrong with a file, in one sentence."""
    try:
        yield
    except OSError as error:
        raise Failed(f"cannot use {str(error.filename or file)!r}: {error.strerror}") from error


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Any], None] | None]:
    """Shows on a terminal how far it is; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(done: Exported | Imported) -> None:
            if isinstance(done, Imported):
                text = f"{done.done:,} of {done.total:,} sessions"
                progress.update(task, total=done.total, completed=done.done, description=text)
            else:
                text = f"{done.sessions:,} sessions, {size(done.bytes)}"
                progress.update(task, description=text)

        yield show
