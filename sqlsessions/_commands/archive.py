"""Commands for archives: export all sessions to a file, import them from one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..archive import Exported, Imported, export_sessions, import_sessions
from ..archive.files import STANDARD
from ..sql.diagnosis.humanize import size
from .common import Failed, Url, run, storage_at


def export(
    file: Annotated[Path, typer.Argument(help="The file to write; `-` is standard output.")],
    url: Url,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted export.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, or a partial one.")] = False,
) -> None:
    """Write all live sessions to a file, to import them into another database.

    The service may keep running. Until it is complete, the file has `.partial` after its name. It holds
    the sessions' data, so only you can read it. Keep the printed digest apart from the file: with it,
    `import --digest` verifies that the file was not changed.

    Exit codes: 0 the file is complete; 1 it failed, and `--resume` goes on; 2 wrong usage.
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
    """Write the sessions of a file into a database. The move logs nobody out.

    The file is verified to its end before anything is written. Of a session that the database has
    already, the newer version stays. If it is interrupted, run it again. Sessions that ended since the
    export come back: import before the service uses the new database.

    Exit codes: 0 all sessions are imported; 1 it failed, and running it again goes on; 2 wrong usage.
    """
    run(_import(file, url, digest), url)


async def _export(file: Path, url: str, *, resume: bool, force: bool) -> None:
    async with storage_at(url) as storage:
        with _files(file), _bar("exporting") as show:
            done = await export_sessions(storage, file, resume=resume, force=force, progress=show)
    typer.echo(f"exported {_summary(done)}", err=file == STANDARD)
    typer.echo(f"digest {done.digest}", err=file == STANDARD)


async def _import(file: Path, url: str, digest: str | None) -> None:
    async with storage_at(url) as storage:
        with _files(file), _bar("importing") as show:
            done = await import_sessions(storage, file, digest=digest, progress=show)
    typer.echo(f"imported {_summary(done)}")
    for count, outcome in (
        (done.present, "were in the database already"),
        (done.newer, "were in the database in a newer version, which stays"),
        (done.expired, "have expired since"),
    ):
        if count:
            typer.echo(f"{count:,} {outcome}")
    typer.echo(f"digest {done.digest}")


def _summary(done: Exported | Imported) -> str:
    return f"{done.sessions:,} sessions, {done.bytes:,} bytes of data"


@contextmanager
def _files(file: Path) -> Iterator[None]:
    """Report errors of the file on one line."""
    try:
        yield
    except OSError as error:
        raise Failed(f"cannot use {str(error.filename or file)!r}: {error.strerror}") from error


@contextmanager
def _bar(title: str) -> Iterator[Callable[[Any], None] | None]:
    """A progress bar on a terminal; None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
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
