"""Commands for archives: export all sessions to a file, import them from one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..archive import Exported, Imported, export_sessions, import_sessions
from ..archive.files import STANDARD
from ..sql.diagnosis.humanize import counted, size
from .common import USAGE, Failed, Namespace, Url, run, stop, storage_at
from .moving import Library, Place, copy
from .subjects import KeysFile, export_subject


def export(
    file: Annotated[Path, typer.Argument(help="The file to write; `-` is standard output.")],
    url: Url,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted export.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, or a partial one.")] = False,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="SUBJECT",
            show_default=False,
            help="Write all that is kept about a subject instead, as JSON.",
        ),
    ] = None,
    keys_file: KeysFile = None,
    namespace: Namespace = None,
) -> None:
    """Write all live sessions to a file, to import them into another database; or all about one subject.

    The service may keep running. Until it is complete, the file has `.partial` after its name. It holds
    the sessions' data, so only you can read it. Keep the printed digest apart from the file: with it,
    `import --digest` verifies that the file was not changed.

    With `--subject`, the file answers a subject's request for a copy: an object of JSON with its live `sessions`, their
    data included, and the records of those that have `ended`. It cannot be imported.

    Exit codes: 0 the file is complete; 1 it failed, and `--resume` goes on; 2 wrong usage.
    """
    if subject is not None:
        if resume:
            stop("--resume is not for an export with --subject", USAGE)
        work = export_subject(file, url, subject, namespace=namespace, keys_file=keys_file, force=force)
        run(work, url)
        return
    for name, value in {"namespace": namespace, "keys-file": keys_file}.items():
        if value is not None:
            stop(f"--{name} is for an export with --subject", USAGE)
    run(_export(file, url, resume=resume, force=force), url)


def import_(
    url: Url,
    file: Annotated[
        Path | None,
        typer.Argument(help="A file that `export` made; `-` is standard input.", show_default=False),
    ] = None,
    *,
    digest: Annotated[
        str | None,
        typer.Option(metavar="SHA256", show_default=False, help="Refuse a file with another digest."),
    ] = None,
    library: Annotated[
        Library | None,
        typer.Option("--from", show_default=False, help="Copy another library's sessions instead."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="SQLSESSIONS_SOURCE",
            show_default=False,
            metavar="URL",
            help="Where that library keeps them: a database, or `redis://host`.",
        ),
    ] = None,
    source_key: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            metavar="KEY",
            help="The key that it signs with, and older ones. The variable SQLSESSIONS_SOURCE_KEYS, with "
            "a key on each line, keeps them out of the list of processes.",
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option(show_default=False, help="Its table, if not the usual one.")
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(show_default=False, help="Its prefix of keys in Redis, if not the usual one."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(show_default=False, metavar="NAME", help="The key of its data that names the user."),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            metavar="SECONDS",
            help="Their idle timeout once they are used, as your storage has it: 14 days unless given.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
    namespace: Namespace = None,
) -> None:
    """Write sessions into a database: those of a file, or another library's. The move logs nobody out.

    A file is verified to its end before anything is written. Of a session that the database has
    already, the newer version stays. If it is interrupted, run it again. Sessions that ended since the
    export come back: import before the service uses the new database.

    With `--from`, cookies and expiries stay as they are, and so do sessions that the database has
    already. The number of those that cannot be imported is printed with the reason.

    Exit codes: 0 it is done; 1 it failed, and running it again goes on; 2 wrong usage.
    """
    if library is None:
        if file is None:
            stop("give a file, or --from", USAGE)
        given = {"table": table, "prefix": prefix, "subject": subject, "ttl": ttl, "namespace": namespace}
        for name, value in {**given, "dry-run": dry_run or None}.items():
            if value is not None:
                stop(f"--{name} is for an import with --from", USAGE)
        run(_import(file, url, digest), url)
        return
    if file is not None or digest is not None:
        stop("--from reads no file", USAGE)
    if source is None:
        stop("--from needs --source", USAGE)
    keys = source_key or os.environ.get("SQLSESSIONS_SOURCE_KEYS", "").splitlines()
    options = {"secret_keys": keys, "table": table, "prefix": prefix, "subject": subject}
    place = Place(library, source, options)
    run(copy(place, url, namespace=namespace, ttl=ttl, dry_run=dry_run), url)


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
    return f"{counted(done.sessions, 'session')}, {counted(done.bytes, 'byte')} of data"


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
                text = f"{counted(done.sessions, 'session')}, {size(done.bytes)}"
                progress.update(task, description=text)

        yield show
