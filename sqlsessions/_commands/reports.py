"""Commands that report on the database: statistics, and problems."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .. import schema
from ..errors import InvalidArgument, SchemaOutOfDate, SessionError
from ..records import microseconds
from ..sql.diagnosis import doctor as diagnosis
from ..sql.diagnosis.doctor import Finding, Plan, State
from ..sql.diagnosis.humanize import away, share, size
from ..sql.diagnosis.security import of_security
from ..sql.diagnosis.statistics import SizeClass, Statistics, statistics
from ..sql.engine.urls import async_url
from .common import FAILURE, Json, Url, as_json, database_at, one_line, printable, run, say, show_all

BAR = 24
STYLES = {State.OK: "green", State.NOTE: "yellow", State.PROBLEM: "bold red"}


def stats(url: Url, json: Json = False) -> None:
    """Count the sessions: live and expired, by size, age and subject.

    The database counts, in one pass over its tables, and no session data is read. With millions of
    sessions it may take a minute.

    `--json` prints one object: `totals` (`live`, `bytes`, `largest_bytes`, `chunked`, `expired`,
    `expired_bytes`, `expired_since`, `oldest_created_at`, `last_updated_at`, `next_expires_at`,
    `with_subject`, and `sizes`, a list of `up_to`, `sessions`, `bytes`), `subjects`, `top_subjects`
    (up to ten of `subject`, `sessions`, `bytes`), `orphans` (`waiting`, `overdue`, `overdue_chunks`,
    `overdue_bytes`) and `disk_bytes`. Sizes are bytes, times ISO 8601 in UTC or null.

    Exit codes: **0** counted, **1** it failed, **2** wrong usage.
    """

    async def counted() -> Statistics:
        async with database_at(url) as database:
            return await statistics(database, microseconds(time.time))

    found = run(counted(), url)
    if json:
        say(as_json(asdict(found), indent=2))
        return
    show_all(_overview(found), "", _sizes(found.totals.sizes))
    if found.top_subjects:
        show_all("", _subjects(found))


def doctor(
    url: Url,
    pool_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="The pool_size that your storages are given.")
    ] = 5,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many processes have a storage.")
    ] = 1,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Also check the integrity of every page of a SQLite file."),
    ] = False,
    security: Annotated[
        bool,
        typer.Option("--security", help="Also look at what keeps sessions from others."),
    ] = False,
    json: Json = False,
) -> None:
    """Find problems of the database, and settings that cost durability or speed. Changes nothing.

    Checks the connection, the tables, the settings that decide whether a committed session survives a
    crash, the clock against this host's, the connections that your services may open against the
    server's limit, expired sessions and chunks that no purge has deleted, and on PostgreSQL autovacuum
    and the share of HOT updates. With `--security` also TLS, the rights of the database's user, sessions
    without an end, the keys that sessions are encrypted under, and namespaces: give it the URL of the service.

    Each finding is **ok**, a **note** (worth a look, but all works) or a **problem** (data may be lost,
    or operations may fail). `--json` prints a list of objects with `check`, `state`, `seen` and `advice`.

    Exit codes: **0** no problems, **1** at least one problem, **2** wrong usage.
    """

    async def examined() -> list[Finding]:
        plan = Plan(async_url(url), pool_size, processes, thorough, security)
        return [finding async for finding in _examine(url, plan)]

    found = run(examined(), url)
    if json:
        say(as_json([asdict(finding) for finding in found], indent=2))
    else:
        show_all(_findings(found), "", _summary(found))
    if any(finding.state is State.PROBLEM for finding in found):
        raise typer.Exit(FAILURE)


async def _examine(url: str, plan: Plan) -> AsyncIterator[Finding]:
    """All findings, up to the first check that cannot be made."""
    check = "connection"
    try:
        async with database_at(url) as database:
            async for finding in diagnosis.of_database(database, plan):
                yield finding
                check = "database"
            try:
                await schema.check(url)
            except SchemaOutOfDate as error:
                yield _failed("tables", error, url)
                return
            yield Finding(
                "tables", State.OK, f"up to date, at revision {await schema.current(url) or 'none'}"
            )
            async for finding in diagnosis.of_tables(database, plan):
                yield finding
            if plan.security:
                async for finding in of_security(database, plan):
                    yield finding
    except InvalidArgument:
        raise
    except SessionError as error:
        yield _failed(check, error, url)


def _failed(check: str, error: SessionError, url: str) -> Finding:
    return Finding(check, State.PROBLEM, one_line(error, url))


def _findings(found: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in found:
        seen = Text(finding.seen)
        if finding.advice:
            seen.append(f"\n{finding.advice}", style="italic")
        table.add_row(Text(finding.state, style=STYLES[finding.state]), finding.check, seen)
    return table


def _summary(found: list[Finding]) -> Text:
    number = Counter(finding.state for finding in found)
    counted = [
        f"{number[state] or 'no'} {state}{'' if number[state] == 1 else 's'}"
        for state in (State.PROBLEM, State.NOTE)
    ]
    worst = next((state for state in (State.PROBLEM, State.NOTE) if number[state]), State.OK)
    return Text(", ".join(counted), style=STYLES[worst])


def _table(*columns: str) -> Table:
    """A table with a column of text, and columns of numbers aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_header=bool(any(columns)))
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=bool(number))
    return table


def _overview(found: Statistics) -> Table:
    totals, orphans = found.totals, found.orphans
    table = _table("SESSIONS", "NUMBER", "DATA")
    table.add_row("live", f"{totals.live:,}", size(totals.bytes))
    table.add_row("expired, not purged yet", f"{totals.expired:,}", size(totals.expired_bytes))
    if orphans.overdue:
        table.add_row("chunks without a session", f"{orphans.overdue_chunks:,}", size(orphans.overdue_bytes))
    if found.disk_bytes is not None:
        table.add_row("on disk, with indexes", "", size(found.disk_bytes))
    if totals.live:
        table.add_row()
        table.add_row("a live session, on average", "", size(totals.bytes // totals.live))
        table.add_row("the largest", "", size(totals.largest_bytes))
        table.add_row("the oldest was created", "", away(totals.oldest_created_at))
        table.add_row("the last write was", "", away(totals.last_updated_at))
        table.add_row("the next one expires", "", away(totals.next_expires_at))
    return table


def _sizes(classes: list[SizeClass]) -> Table:
    total = sum(each.sessions for each in classes)
    most = max(each.sessions for each in classes) or 1
    table = _table("LIVE, BY SIZE", "NUMBER", "SHARE", "DATA")
    table.add_column(no_wrap=True, style="blue")
    above = 0
    for each in classes:
        name = f"above {size(above)}" if each.up_to is None else f"up to {size(each.up_to)}"
        bar = "█" * max(round(BAR * each.sessions / most), 1 if each.sessions else 0)
        table.add_row(name, f"{each.sessions:,}", share(each.sessions, total), size(each.bytes), bar)
        above = each.up_to or above
    return table


def _subjects(found: Statistics) -> Table:
    totals = found.totals
    table = _table("LIVE, BY SUBJECT", "NUMBER", "DATA")
    for each in found.top_subjects:
        table.add_row(Text(printable(each.subject)), f"{each.sessions:,}", size(each.bytes))
    if (others := found.subjects - len(found.top_subjects)) > 0:
        rest = totals.with_subject - sum(each.sessions for each in found.top_subjects)
        table.add_row(Text(f"{others:,} others", style="italic"), f"{rest:,}")
    table.add_row(Text("no subject", style="italic"), f"{totals.live - totals.with_subject:,}")
    return table
