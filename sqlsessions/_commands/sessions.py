"""Commands for sessions: list them, show one, end them."""

from __future__ import annotations

import asyncio
import sys
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.cells import cell_len
from rich.table import Table

from ..channels import ByteReadChannel
from ..errors import SessionNotFound
from ..info import SessionInfo
from ..sql.diagnosis.humanize import KIB, away, counted, moment, size
from ..sql.internals import keep_ended_as_services, keys_from
from ..sql.storage import SqlSessionStorage
from .common import (
    Failed,
    Namespace,
    Url,
    Yes,
    as_json,
    cells,
    client_line,
    confirm,
    output,
    printable,
    run,
    say,
    show_all,
    storage_at,
    tell_left_out,
)
from .ended import list_ended
from .files import new_file

BATCH = 256
"""Sessions that are ended together."""
KEY_DIGITS = 64
LEAST_DIGITS = 6
"""Of the beginning of a key."""
HEX = set("0123456789abcdefABCDEF")
COLUMNS = ((-29, "SUBJECT"), (10, "SIZE"), (13, "CREATED"), (13, "WRITTEN"), (13, "EXPIRES"))
"""Widths, of which a negative one aligns to the left: 78 characters with an indent of two."""


def list_(
    url: Url,
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", show_default=False, help="Only this subject's sessions.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", show_default=False, help="Only sessions with this label.")
    ] = None,
    ended: Annotated[
        bool, typer.Option("--ended", help="Sessions that have ended, if the service keeps records of them.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="List at most so many; 0 lists all.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    namespace: Namespace = None,
) -> None:
    """List live sessions: key, subject, size, times, labels and client.

    A key identifies a session, but is not its id: it cannot be used to log in. `show` and `revoke --key`
    take it. One subject's sessions are listed newest first. The list is read page by page, however long
    it is.

    With `--ended`, the sessions that have ended, the last one first: why, when, since when, and when they were last
    used. A line of `--json` has `key`, `reason`, `subject`, `ended_at`, `created_at`, `used_at` and `client` then.

    A line of `--json` has `key`, `subject`, `size` in bytes, `version`, `created_at`, `updated_at`, `expires_at`,
    `used_at`, `labels` and `client`; times are ISO 8601 in UTC, or null for never.

    Exit codes: **0** listed, **1** it failed, **2** wrong usage.
    """
    if label is not None and (subject is not None or ended):
        raise typer.BadParameter("not together with --subject or --ended", param_hint="--label")

    async def listed() -> None:
        if ended:
            async with storage_at(url, namespace) as storage:
                await list_ended(storage, subject, limit, json=json)
            return
        number = 0
        async with (
            storage_at(url, namespace) as storage,
            aclosing(storage.sessions(subject, label=label)) as found,  # type: ignore[type-var]
        ):
            async for info in found:
                if number == limit > 0:
                    typer.echo(f"These are the first {limit:,}; --limit 0 lists all.", err=True)
                    break
                if json:
                    say(as_json(as_dict(info)))
                else:
                    if number == 0:
                        say(f"KEY\n  {cells(COLUMNS, *(name for _, name in COLUMNS))}")
                    say("\n".join(_lines(info)))
                number += 1
        if number == 0 and not json:
            typer.echo(
                "There are no live sessions"
                + (" of this subject." if subject else " with this label." if label else "."),
                err=True,
            )

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
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the data itself to standard output; on a terminal, as text.")
    ] = False,
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
    namespace: Namespace = None,
) -> None:
    """Show a session: its info, or its data.

    Without `--raw` or `--output` the data is not read. With one of them it is streamed, so that a
    session of any size takes little memory.

    An argument of 64 hexadecimal digits is a key, any other an id, or else the beginning of a key, with at
    least six digits; `-` or none reads an id.

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

        async with storage_at(url, namespace) as storage:
            key = await _key_of(storage, id) if given else storage.digest(id).hex()
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
    label: Annotated[
        str | None,
        typer.Option(metavar="LABEL", show_default=False, help="End all sessions with this label."),
    ] = None,
    subject_prefix: Annotated[
        str | None,
        typer.Option(metavar="TEXT", show_default=False, help="End the sessions of subjects that begin so."),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"],
            metavar="TIME",
            show_default=False,
            help="End the sessions that began before a time in UTC.",
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="End all sessions of the namespace.")] = False,
    namespace: Namespace = None,
    yes: Yes = False,
) -> None:
    """End sessions at once: of a subject, with a label, one by its key, those that began before a time, or all.

    On a terminal, all but `--key` ask for confirmation; without one, `--all`, `--before` and
    `--subject-prefix` need `--yes`. If no session is found, that is no error. Sessions that begin meanwhile
    may stay: after a breach, stop what makes them first. Even `--all` ends the sessions of one namespace, or
    those of none; a line on standard error says if others have sessions.

        sqlsessions revoke --subject alice
        sqlsessions revoke --key 5f2c...
        sqlsessions revoke --before 2027-01-31T12:00:00 --yes

    Exit codes: **0** ended, **1** it failed or you answered no, **2** wrong usage.
    """
    many = all_ or before is not None or subject_prefix is not None
    if sum(each is not None for each in (subject, key, label)) + many != 1:
        hint = "--subject / --key / --label / --subject-prefix / --before / --all"
        raise typer.BadParameter("exactly one of them is needed", param_hint=hint)
    if key is not None and not _is_key(key):
        raise typer.BadParameter("a key has 64 hexadecimal digits", param_hint="--key")
    moment = before and before.replace(tzinfo=UTC)

    def chosen(info: SessionInfo) -> bool:
        of_subject = subject_prefix is None or (info.subject or "").startswith(subject_prefix)
        return of_subject and (moment is None or info.created_at < moment)

    async def revoked() -> None:
        async with storage_at(url, namespace) as storage:
            await keep_ended_as_services(storage)
            typer.echo(f"ended {counted(await ended(storage), 'session')}")
            await tell_left_out(storage, namespace)

    async def ended(storage: SqlSessionStorage) -> int:
        if many:
            confirm(f"End {counted(await _count(storage.sessions(), chosen), 'session')}?", yes=yes)
            return await (storage.revoke_all(moment) if subject_prefix is None else _end(storage, chosen))
        if key is not None:
            return int(await storage.invalidate_key(key))
        if label is not None:
            await _confirm(storage.sessions(label=label), f"with the label {printable(label)}", yes=yes)
            return await storage.revoke_label(label)
        assert subject is not None
        await _confirm(storage.sessions(subject), f"of {printable(subject)}", yes=yes)
        return await storage.revoke(subject)

    run(revoked(), url)


async def _confirm(found: AsyncIterator[SessionInfo], which: str, *, yes: bool) -> None:
    """Ask whether to end sessions, on a terminal and if there are any."""
    if sys.stdin.isatty() and not yes and (number := await _count(found, lambda _: True)):
        confirm(f"End {counted(number, 'session')} {which}?", yes=yes)


async def _count(found: AsyncIterator[SessionInfo], chosen: Callable[[SessionInfo], bool]) -> int:
    return sum([1 async for info in found if chosen(info)])


async def _end(storage: SqlSessionStorage, chosen: Callable[[SessionInfo], bool]) -> int:
    """End the sessions that are chosen; those that wait together are one batch."""
    ended, batch = 0, list[str]()
    async for info in storage.sessions():
        if chosen(info):
            batch.append(info.key)
        if len(batch) == BATCH:
            ended += sum(await asyncio.gather(*map(storage.invalidate_key, batch)))
            batch.clear()
    return ended + sum(await asyncio.gather(*map(storage.invalidate_key, batch)))


def _is_key(text: str) -> bool:
    return len(text) == KEY_DIGITS and set(text) <= HEX


async def _key_of(storage: SqlSessionStorage, text: str) -> str:
    """The key that is meant by a key, an id, or the beginning of the key of one live session."""
    if _is_key(text):
        return text.lower()
    if LEAST_DIGITS <= len(text) < KEY_DIGITS and set(text) <= HEX and await storage.info(text) is None:
        found = await keys_from(storage, text.lower())
        if len(found) > 1:
            raise Failed(f"{len(found)} live sessions have keys that begin so: give more digits")
        if found:
            return found[0]
    return storage.digest(text).hex()


def _read_id() -> str:
    """Read a session id, from a prompt on a terminal or from standard input."""
    if sys.stdin.isatty():
        id: str = typer.prompt("Session id", hide_input=True, err=True)
        return id
    line = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    return line.decode(errors="surrogateescape")


def as_dict(info: SessionInfo) -> dict[str, Any]:
    """A session for programs."""
    times = (info.created_at, info.updated_at, info.expires_at, info.used_at)
    created, updated, expires, used = (None if time is None else time.isoformat() for time in times)
    return {
        "key": info.key,
        "subject": info.subject,
        "size": info.size,
        "version": info.version,
        "created_at": created,
        "updated_at": updated,
        "expires_at": expires,
        "used_at": used,
        "labels": info.labels,
        "client": info.client,
    }


def _lines(info: SessionInfo) -> list[str]:
    """A session on two lines; a long subject, labels and a client have lines of their own."""
    subject = "" if info.subject is None else printable(info.subject)
    times = (away(info.created_at), away(info.updated_at), away(info.expires_at))
    width = -COLUMNS[0][0]
    own = [] if cell_len(subject) <= width else [f"  {subject}"]
    more = [f"  {text}" for text in (_labels(info), client_line(info.client)) if text]
    return [info.key, *own, f"  {cells(COLUMNS, '' if own else subject, size(info.size), *times)}", *more]


def _labels(info: SessionInfo) -> str:
    return ", ".join(map(printable, info.labels))


def _print_info(info: SessionInfo) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    table.add_row("key", info.key)
    table.add_row("subject", "none" if info.subject is None else printable(info.subject))
    table.add_row("size", size(info.size) + (f" ({info.size:,} bytes)" if info.size >= KIB else ""))
    table.add_row("version", str(info.version))
    for name, time in (("created", info.created_at), ("written", info.updated_at), ("used", info.used_at)):
        if time is not None:
            table.add_row(name, f"{moment(time)}, {away(time)}")
    expires = info.expires_at
    table.add_row("expires", "never" if expires is None else f"{moment(expires)}, {away(expires)}")
    if info.labels:
        table.add_row("labels", _labels(info))
    for name, value in (info.client or {}).items():
        table.add_row(printable(name), printable(value))
    show_all(table)


async def _copy(channel: ByteReadChannel, file: BinaryIO) -> None:
    async for piece in channel:
        file.write(piece)


async def _print(channel: ByteReadChannel) -> None:
    """Write data to standard output; on a terminal as text, with what could control it escaped."""
    decoder = getincrementaldecoder("utf-8")("backslashreplace") if sys.stdout.isatty() else None
    async for piece in channel:
        with output():
            sys.stdout.buffer.write(piece if decoder is None else _shown(decoder.decode(piece)))
            sys.stdout.buffer.flush()
    if decoder is not None:
        with output():
            sys.stdout.buffer.write(_shown(decoder.decode(b"", final=True)))
            sys.stdout.buffer.flush()


def _shown(text: str) -> bytes:
    return "\n".join(map(printable, text.split("\n"))).encode()
