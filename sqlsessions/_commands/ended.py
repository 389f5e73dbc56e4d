"""What `sqlsessions list --ended` prints: records of sessions that have ended."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import typer
from rich.cells import cell_len

from ..info import EndedSession
from ..sql.diagnosis.humanize import away
from ..sql.storage import SqlSessionStorage
from .common import as_json, cells, client_line, printable, say

COLUMNS = ((-30, "SUBJECT"), (-9, "REASON"), (13, "ENDED"), (13, "CREATED"), (13, "USED"))
"""As of lists of live sessions."""


async def list_ended(storage: SqlSessionStorage, subject: str | None, limit: int, *, json: bool) -> None:
    """Print records, the last end first."""
    number = 0
    async with aclosing(storage.ended(subject)) as found:  # type: ignore[type-var]
        async for each in found:
            if number == limit > 0:
                typer.echo(f"These are the last {limit:,}; --limit 0 lists all.", err=True)
                break
            if json:
                say(as_json(as_dict(each)))
            else:
                if number == 0:
                    say(f"KEY\n  {cells(COLUMNS, *(name for _, name in COLUMNS))}")
                say("\n".join(_lines(each)))
            number += 1
    if number == 0 and not json:
        typer.echo(f"No ended sessions{' of this subject' if subject else ''} are kept.", err=True)


def as_dict(ended: EndedSession) -> dict[str, Any]:
    """A record for programs."""
    return {
        "key": ended.key,
        "reason": ended.reason,
        "subject": ended.subject,
        "ended_at": ended.ended_at.isoformat(),
        "created_at": ended.created_at.isoformat(),
        "used_at": ended.used_at.isoformat(),
        "client": ended.client,
    }


def _lines(ended: EndedSession) -> list[str]:
    """A record on two lines; a long subject and a client have lines of their own."""
    subject = "" if ended.subject is None else printable(ended.subject)
    times = (away(ended.ended_at), away(ended.created_at), away(ended.used_at))
    own = [] if cell_len(subject) < -COLUMNS[0][0] else [f"  {subject}"]
    client = client_line(ended.client)
    more = [f"  {client}"] if client else []
    return [ended.key, *own, f"  {cells(COLUMNS, '' if own else subject, ended.reason, *times)}", *more]
