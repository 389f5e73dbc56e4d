"""What concerns one subject: write all that is kept about it to a file, and erase it."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from .._keys import keys_from_environment, keys_from_file
from ..archive.files import STANDARD
from ..delegating import DelegatingStorage
from ..info import Snapshot
from ..sql.diagnosis.humanize import counted
from ..sql.diagnosis.security import ENCRYPTED
from ..sql.storage import SqlSessionStorage
from .common import (
    Failed,
    Namespace,
    Url,
    Yes,
    as_json,
    confirm,
    output,
    printable,
    run,
    storage_at,
    tell_left_out,
)
from .ended import as_dict as ended_as_dict
from .files import new_file
from .keys import VARIABLE
from .sessions import as_dict

KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys-file",
        metavar="FILE",
        show_default=False,
        help=f"The keys of the service's `EncryptedStorage`, one a line; else they are in the variable {VARIABLE}.",
    ),
]
Storage = SqlSessionStorage | DelegatingStorage


def erase(
    url: Url,
    subject: Annotated[str, typer.Option(metavar="SUBJECT", show_default=False, help="Whose sessions.")],
    keys_file: KeysFile = None,
    namespace: Namespace = None,
    yes: Yes = False,
) -> None:
    """End all sessions of a subject, and delete what is kept of those that have ended: a request to be forgotten.

    Asks for confirmation, with their numbers; without a terminal, it needs `--yes`. A session that begins meanwhile
    stays: close the account first. What large sessions leave, without a name, is deleted by the purges of the next
    minutes. Each namespace is a run of its own.

    Exit codes: **0** erased, **1** it failed or you answered no, **2** wrong usage.
    """

    async def erased() -> None:
        async with service_at(url, namespace, keys_file) as (sql, storage):
            live = len([info.key async for info in storage.sessions(subject)])
            kept = len([each.key async for each in storage.ended(subject)])
            if live or kept:
                both = f"End {counted(live, 'session')} of {printable(subject)}, and delete {_records(kept)}?"
                confirm(both, yes=yes)
            ended = await storage.revoke(subject)
            over = await storage.forget_ended(subject)
            typer.echo(f"ended {counted(ended, 'session')}, deleted {_records(over)}")
            await tell_left_out(sql, namespace)

    run(erased(), url)


async def export_subject(
    file: Path, url: str, subject: str, *, namespace: str | None, keys_file: Path | None, force: bool
) -> None:
    """Write all that is kept about a subject to a file, as JSON; each session's data is held in memory for that."""
    async with service_at(url, namespace, keys_file) as (sql, storage):
        with _opened(file, force=force) as out:
            head = as_json({"subject": subject, "exported_at": datetime.now(UTC)})
            out.write(f"{head.removesuffix('}')},\n".encode())
            live = await _write_list(out, "sessions", _sessions(storage, subject))
            out.write(b",\n")
            records = (ended_as_dict(each) async for each in storage.ended(subject))
            kept = await _write_list(out, "ended", records)
            out.write(b"}\n")
        typer.echo(f"exported {counted(live, 'session')}, {_records(kept)}", err=file == STANDARD)
        await tell_left_out(sql, namespace)


@asynccontextmanager
async def service_at(
    url: str, namespace: str | None, keys_file: Path | None
) -> AsyncIterator[tuple[SqlSessionStorage, Storage]]:
    """A storage for a command; and the same under the encryption of the service, if its keys are given."""
    async with storage_at(url, namespace) as sql:
        if keys_file is None and not os.environ.get(VARIABLE):
            yield sql, sql
            return
        keys = keys_from_environment(VARIABLE) if keys_file is None else keys_from_file(keys_file)
        try:
            from ..layers.encryption import EncryptedStorage  # noqa: PLC0415 (of an extra)
        except ModuleNotFoundError as error:
            raise Failed(str(error)) from error
        yield sql, EncryptedStorage(sql, keys, encrypt_subjects=True)


async def _sessions(storage: Storage, subject: str) -> AsyncIterator[dict[str, Any]]:
    async for info in storage.sessions(subject):
        if (snapshot := await storage.load_key(info.key)) is not None:
            yield as_dict(snapshot.info) | _data(snapshot)


def _data(snapshot: Snapshot) -> dict[str, str]:
    """A session's data: as text if it is that, else as base64."""
    if ENCRYPTED.match(snapshot.data):
        raise Failed(f"the data is encrypted: give the keys, by --keys-file or the variable {VARIABLE}")
    try:
        return {"data": snapshot.data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(snapshot.data).decode()}


async def _write_list(out: BinaryIO, name: str, items: AsyncIterator[dict[str, Any]]) -> int:
    number = 0
    out.write(f' "{name}": ['.encode())
    async for item in items:
        out.write(f"{',' if number else ''}\n  {as_json(item)}".encode())
        number += 1
    out.write(b"]")
    return number


@contextmanager
def _opened(file: Path, *, force: bool) -> Iterator[BinaryIO]:
    if file == STANDARD:
        with output():
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
    else:
        with new_file(file, replace=force) as opened:
            yield opened


def _records(number: int) -> str:
    return f"{counted(number, 'record')} of ended ones"
