"""Diagnosis of PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from .base import Diagnosis, Finding, Plan, State, connections, durable, row, scalar
from .humanize import away, share

ENOUGH_UPDATES = 1000
"""Fewer updates are too small a sample."""

GOOD_HOT_SHARE = 0.5

SETTINGS = "SELECT name, setting FROM pg_settings"
TABLE = """
    SELECT coalesce(n_live_tup, 0), coalesce(n_dead_tup, 0), coalesce(n_tup_upd, 0),
           coalesce(n_tup_hot_upd, 0), greatest(last_autovacuum, last_vacuum),
           coalesce((SELECT option_value::int FROM pg_options_to_table(c.reloptions)
                     WHERE option_name = 'fillfactor'), 100)
    FROM pg_class c LEFT JOIN pg_stat_user_tables t ON t.relid = c.oid
    WHERE c.oid = to_regclass(:name)
"""


class PostgreSQLDiagnosis(Diagnosis):
    clock: ClassVar = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    version: ClassVar = "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)"

    async def settings(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        values = await _settings(connection)
        if values["transaction_read_only"] == "on":
            standby = await scalar(connection, "SELECT pg_is_in_recovery()")
            seen = "this server is a standby" if standby else "transactions are read-only by default"
            yield Finding("writable", State.PROBLEM, seen, "Point the URL at the primary.")
        else:
            yield Finding("writable", State.OK, "yes")
        crash = "a crash of the server may destroy the database"
        yield durable("fsync", values["fsync"], ("on",), crash)
        yield durable("full_page_writes", values["full_page_writes"], ("on",), crash)
        yield durable(
            "synchronous_commit",
            values["synchronous_commit"],
            ("on", "local", "remote_write", "remote_apply"),
            "a crash of the server may undo the last commits",
        )
        used = int(
            await scalar(connection, "SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")
        )
        reserved = ("superuser_reserved_connections", "reserved_connections")
        limit = int(values["max_connections"]) - sum(int(values.get(name, 0)) for name in reserved)
        yield connections(plan, limit, "max_connections", used)
        pids = {await scalar(connection, "SELECT pg_backend_pid()") for _ in range(3)}
        if len(pids) > 1:
            yield Finding(
                "pooler",
                State.NOTE,
                "statements go over different connections: there is a pooler in between",
                "Use no prepared statements unless the pooler supports them.",
            )

    async def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        values = await _settings(connection)
        if values["autovacuum"] != "on" or values["track_counts"] != "on":
            seen = "it is off: dead rows pile up, and every read gets slower"
            yield Finding("autovacuum", State.PROBLEM, seen, "Set autovacuum and track_counts to on.")
        for name in ("sessions", "session_chunks"):
            found = await row(connection, TABLE, name=name)
            if found is None:
                continue
            live, dead, updates, hot, vacuumed, fillfactor = found
            yield _dead_rows(name, live, dead, vacuumed, values)
            if name == "sessions":
                yield _heap_only(updates, hot, fillfactor)

    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        total = await scalar(
            connection,
            "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint "
            "FROM unnest(ARRAY['sessions', 'session_chunks']) AS name",
        )
        return None if total is None else int(total)


async def _settings(connection: AsyncConnection) -> dict[str, str]:
    return {str(name): str(setting) for name, setting in await connection.execute(text(SETTINGS))}


def _dead_rows(
    table: str, live: int, dead: int, vacuumed: datetime | None, values: dict[str, str]
) -> Finding:
    """Check whether autovacuum keeps up; the settings give the number of dead rows at which it starts."""
    due = int(values["autovacuum_vacuum_threshold"]) + live * float(values["autovacuum_vacuum_scale_factor"])
    seen = f"{table}: {dead:,} dead rows beside {live:,}, "
    seen += f"vacuumed {away(vacuumed)}" if vacuumed else "never vacuumed so far"
    if dead > 2 * due:
        advice = (
            "Autovacuum is behind: look for transactions that stay open, lower "
            f"autovacuum_vacuum_scale_factor for {table}, or raise autovacuum_max_workers."
        )
        return Finding("autovacuum", State.NOTE, seen, advice)
    return Finding("autovacuum", State.OK, seen)


def _heap_only(updates: int, hot: int, fillfactor: int) -> Finding:
    seen = f"{share(hot, updates)} of {updates:,} updates; fillfactor is {fillfactor}"
    if updates >= ENOUGH_UPDATES and hot < GOOD_HOT_SHARE * updates:
        advice = (
            f"Lower it: ALTER TABLE sessions SET (fillfactor = {max(50, fillfactor - 15)}); it takes "
            "effect as rows are rewritten. Indexes of your own on changing columns cost HOT too."
        )
        return Finding("HOT updates", State.NOTE, seen, advice)
    return Finding("HOT updates", State.OK, seen)
