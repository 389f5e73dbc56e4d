"""Commands for encrypted sessions: make a key, put every session under the first one."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .._keys import KEY_BYTES, keys_from_environment, keys_from_file
from ..sql.diagnosis.humanize import counted
from .common import Failed, Namespace, Url, run, say, storage_at, tell_left_out

if TYPE_CHECKING:
    from ..layers.encryption import Rekeyed

VARIABLE = "SQLSESSIONS_KEYS"


def new_key() -> None:
    """Make a secret key, for `EncryptedStorage` and for keyed ids.

    Prints 32 random bytes as base64. Keep it where you keep passwords, apart from the database and its
    backups: without it, the sessions are lost.

    Exit codes: 0 printed; 2 wrong usage.
    """
    say(base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode())


def rekey(
    url: Url,
    *,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help=f"A file of keys, one a line, the new one first; else they are in the variable {VARIABLE}.",
        ),
    ] = None,
    encrypt_subjects: Annotated[
        bool, typer.Option("--encrypt-subjects", help="Encrypt the subjects as well, as the service does.")
    ] = False,
    namespace: Namespace = None,
) -> None:
    """Put every encrypted session of a namespace under the first key, so that the others can be removed.

    The service may keep running, once all of its processes have the new key first among their keys. If it is
    interrupted, run it again. Each namespace is a run of its own, with `--namespace`; without it, the sessions of
    no namespace are done. A line on standard error says if other sessions were left out.

    Exit codes: 0 every session of the namespace is under the first key; 1 it failed, or some cannot be decrypted;
    2 wrong usage.
    """
    run(_rekey(url, keys_file, namespace, encrypt_subjects=encrypt_subjects), url)


async def _rekey(url: str, file: Path | None, namespace: str | None, *, encrypt_subjects: bool) -> None:
    keys = keys_from_environment(VARIABLE) if file is None else keys_from_file(file)
    try:
        from ..layers.encryption import EncryptedStorage  # noqa: PLC0415 (of an extra)
    except ModuleNotFoundError as error:
        raise Failed(str(error)) from error
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    async with storage_at(url, namespace) as sql:
        storage = EncryptedStorage(sql, keys, encrypt_subjects=encrypt_subjects)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("looking for sessions")
            done = await storage.rekey(progress=lambda so_far: bar.update(task, description=_summary(so_far)))
        say(_summary(done))
        await tell_left_out(sql, namespace)
    if done.unreadable:
        raise Failed(f"{done.unreadable:,} sessions are under none of the keys, or not encrypted")


def _summary(done: Rekeyed) -> str:
    return f"{counted(done.sessions, 'session')}, {done.changed:,} of them put under the first key"
