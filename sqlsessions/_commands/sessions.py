"""Commands for sessions: list them, show one, end them."""

from __future__ import annotations

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.cells import cell_len
from rich.table import Table

from ..channels import ByteReadChannel
from ..errors import SessionNotFound
from ..info import SessionInfo
from ..records import digest
from ..sql.diagnosis.humanize import KIB, away, moment, size
from .common import Failed, Url, Yes, as_json, confirm, output, printable, run, say, show_all, storage_at
from .files import new_file

KEY_DIGITS = 64
COLUMNS = ((-29, "SUBJECT"), (10, "SIZE"), (13, "CREATED"), (13, "WRITTEN"), (13, "EXPIRES"))
"""Widths, of which a negative one aligns to the left: 78 characters with an indent of two."""


def list_(
    url: Url,
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", show_default=False, help="Only this subject's sessions.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="List at most so many; 0 lists all.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List live sessions: key, subject, size, times.

    A key identifies a session, but is not its id: it cannot be used to log in. `show` and `revoke --key`
    take it. One subject's sessions are listed newest first. The list is read page by page, however long
    it is.

    A line of `--json` has `key`, `subject`, `size` in bytes, `version`, `created_at`, `updated_at` and
    `expires_at`; times are ISO 8601 in UTC, or null for never.

    Exit codes: **0** listed, **1** it failed, **2** wrong usage.
    """

    async def listed() -> None:
        number = 0
        async with storage_at(url) as storage, aclosing(storage.sessions(subject)) as found:  # type: ignore[type-var]
            async for info in found:
                if number == limit > 0:
                    typer.echo(f"These are the first {limit:,}; --limit 0 lists all.", err=True)
                    break
                if json:
                    say(as_json(_as_dict(info)))
                else:
                    if number == 0:
                        say(f"KEY\n  {_cells(*(name for _, name in COLUMNS))}")
                    say("\n".join(_lines(info)))
                number += 1
        if number == 0 and not json:
            typer.echo("There are no live sessions" + (" of this subject." if subject else "."), err=True)

    run(listed(), url)


def show(
    url: Url,
    key_or_id: Annotated[
        str | None,
        typer.Argument(
            metavar="KEY_OR_ID",
            show_default=False,
            help="A key, as `list` shows it, or a session id. An id is better left out: it is then asked "
            "for, or read from standard input, and stays out of the shell's history.",
        ),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Write the data itself to standard output.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="Write the data to a file, which only you can read. It appears once it is complete.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --output replace a file.")] = False,
) -> None:
    """Show a session: its info, or its data.

    Without `--raw` or `--output` the data is not read. With one of them it is streamed, so that a
    session of any size takes little memory.

    An argument of 64 hexadecimal digits is a key, any other an id; `-` or none reads an id.

        sqlsessions show 5f2c...               the info of a listed session
        sqlsessions show                       asks for an id, without showing it
        sqlsessions show - --raw < id | jq     the data of a session of JSON

    Exit codes: **0** shown, **1** there is no such session, or it failed, **2** wrong usage.
    """
    if raw and output:
        raise typer.BadParameter("not together with --output", param_hint="--raw")
    if force and not output:
        raise typer.BadParameter("only with --output", param_hint="--force")
    id = _read_id() if key_or_id in (None, "-") else str(key_or_id)
    given = key_or_id == id

    async def shown() -> SessionInfo | None:
        async def look(channel: ByteReadChannel) -> SessionInfo | None:
            return channel.info

        async def copy(channel: ByteReadChannel) -> None:
            if output:
                with new_file(output, replace=force) as file:
                    await _copy(channel, file)
            else:
                await _print(channel)

        async with storage_at(url) as storage:
            key = id.lower() if given and _is_key(id) else digest(id).hex()
            try:
                return await storage.read_key(key, copy if raw or output else look)
            except SessionNotFound:
                what = "key" if given and _is_key(id) else "id"
                raise Failed(f"no live session has this {what}") from None

    if (info := run(shown(), url)) is not None:
        _print_info(info)
    elif output:
        typer.echo(f"written to {output}", err=True)


def revoke(
    url: Url,
    subject: Annotated[
        str | None,
        typer.Option(metavar="SUBJECT", show_default=False, help="End all sessions of this subject."),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", show_default=False, help="End the session with this key.")
    ] = None,
    yes: Yes = False,
) -> None:
    """End sessions at once: all of a subject, or one by its key.

    On a terminal, `--subject` asks for confirmation. If no session is found, that is no error. Services
    with a cache may serve an ended session until their entry has been idle for a minute.

        sqlsessions revoke --subject alice
        sqlsessions revoke --key 5f2c...

    Exit codes: **0** ended, **1** it failed or you answered no, **2** wrong usage.
    """
    if (subject is None) == (key is None):
        raise typer.BadParameter("exactly one of them is needed", param_hint="--subject / --key")
    if key is not None and not _is_key(key):
        raise typer.BadParameter("a key has 64 hexadecimal digits", param_hint="--key")

    async def revoked() -> int:
        async with storage_at(url) as storage:
            if key is not None:
                return int(await storage.invalidate_key(key))
            assert subject is not None
            if sys.stdin.isatty() and not yes:
                number = sum([1 async for _ in storage.sessions(subject)])
                if number == 0:
                    return 0
                confirm(f"End {_number(number)} of {printable(subject)}?", yes=yes)
            return await storage.revoke(subject)

    typer.echo(f"ended {_number(run(revoked(), url))}")


def _is_key(text: str) -> bool:
    return len(text) == KEY_DIGITS and all(each in "0123456789abcdefABCDEF" for each in text)


def _number(number: int) -> str:
    return f"{number:,} session{'' if number == 1 else 's'}"


def _read_id() -> str:
    """Read a session id, from a prompt on a terminal or from standard input."""
    if sys.stdin.isatty():
        id: str = typer.prompt("Session id", hide_input=True, err=True)
        return id
    line = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    return line.decode(errors="surrogateescape")


def _as_dict(info: SessionInfo) -> dict[str, Any]:
    times = (info.created_at, info.updated_at, info.expires_at)
    created, updated, expires = (None if time is None else time.isoformat() for time in times)
    return {
        "key": info.key,
        "subject": info.subject,
        "size": info.size,
        "version": info.version,
        "created_at": created,
        "updated_at": updated,
        "expires_at": expires,
    }


def _cells(*texts: str) -> str:
    cells = []
    for (width, _), text in zip(COLUMNS, texts, strict=True):
        padding = " " * (abs(width) - cell_len(text))
        cells.append(text + padding if width < 0 else padding + text)
    return "".join(cells).rstrip()


def _lines(info: SessionInfo) -> list[str]:
    """A session on two lines; a long subject has a line of its own."""
    subject = "" if info.subject is None else printable(info.subject)
    times = (away(info.created_at), away(info.updated_at), away(info.expires_at))
    width = -COLUMNS[0][0]
    own = [] if cell_len(subject) <= width else [f"  {subject}"]
    return [info.key, *own, f"  {_cells('' if own else subject, size(info.size), *times)}"]


def _print_info(info: SessionInfo) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    table.add_row("key", info.key)
    table.add_row("subject", "none" if info.subject is None else printable(info.subject))
    table.add_row("size", size(info.size) + (f" ({info.size:,} bytes)" if info.size >= KIB else ""))
    table.add_row("version", str(info.version))
    for name, time in (("created", info.created_at), ("written", info.updated_at)):
        table.add_row(name, f"{moment(time)}, {away(time)}")
    expires = info.expires_at
    table.add_row("expires", "never" if expires is None else f"{moment(expires)}, {away(expires)}")
    show_all(table)


async def _copy(channel: ByteReadChannel, file: BinaryIO) -> None:
    async for piece in channel:
        file.write(piece)


async def _print(channel: ByteReadChannel) -> None:
    async for piece in channel:
        with output():
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
