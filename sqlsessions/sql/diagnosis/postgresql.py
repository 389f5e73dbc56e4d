"""Diagnosis of PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..models import LISTENING, NOTICE_TRIGGERS, metadata
from .base import (
    Diagnosis,
    Finding,
    Plan,
    State,
    connections,
    durable,
    encrypted,
    privileges,
    rights,
    row,
    scalar,
)
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


TABLES = [*metadata.tables]
RIGHTS = """
    SELECT relname, string_agg(wanted, ', ' ORDER BY place)
    FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS rights (wanted, place)
    WHERE oid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name) AND NOT has_table_privilege(oid, wanted)
    GROUP BY relname ORDER BY relname
"""
RESTRICTED = """
    SELECT relname FROM pg_class
    WHERE oid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) AS name) AND row_security_active(oid) ORDER BY relname
"""
NOTICES = """
    SELECT count(t.oid), pg_notification_queue_usage(),
           EXISTS (SELECT FROM session_chunks WHERE version = 0 AND seq = :listening)
    FROM pg_trigger t
    WHERE t.tgrelid = to_regclass('sessions') AND t.tgenabled IN ('O', 'A') AND t.tgname = ANY(:triggers)
"""
FULL_QUEUE = 0.1

TLS = """
    SELECT (SELECT version || ', ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
           inet_client_addr() IS NULL OR inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() = '::1'
"""
PRIVILEGES = """
    SELECT r.rolsuper OR r.rolcreaterole,
           coalesce(pg_has_role(current_user, t.relowner, 'MEMBER'), false)
           OR coalesce(has_schema_privilege(current_user, t.relnamespace, 'CREATE'), false)
    FROM pg_roles r LEFT JOIN pg_class t ON t.oid = to_regclass('sessions')
    WHERE r.rolname = current_user
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
        if pids != {await _named_pid(connection)}:
            yield Finding(
                "pooler",
                State.NOTE,
                "statements go over connections of others: there is a pooler in between",
                "Use no prepared statements unless the pooler supports them. No notices of changes come through it: "
                "give a storage beneath a CacheStorage the URL of the server itself too, as direct_url.",
            )

    async def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        yield rights((await connection.execute(text(RIGHTS), {"tables": TABLES})).all())
        if restricted := [name for (name,) in await connection.execute(text(RESTRICTED), {"tables": TABLES})]:
            seen = f"it hides rows of {' and '.join(restricted)} from this role, unless a policy shows them"
            advice = "Give the role a policy that shows it all rows: to end a hidden session does nothing."
            yield Finding("row-level security", State.NOTE, seen, advice)
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

        if await scalar(connection, "SELECT to_regclass('session_chunks')") is not None:
            for finding in _notices(
                *await row(connection, NOTICES, listening=LISTENING, triggers=list(NOTICE_TRIGGERS))
                or (0, 0.0, False)
            ):
                yield finding

    async def access(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        tls, local = await row(connection, TLS) or (None, False)
        yield encrypted(tls, local=local)
        administers, changes = await row(connection, PRIVILEGES) or (False, False)
        yield privileges(administers=administers, changes_tables=changes)

    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        total = await scalar(
            connection,
            "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint "
            "FROM unnest(CAST(:tables AS text[])) AS name",
            tables=TABLES,
        )
        return None if total is None else int(total)


async def _named_pid(connection: AsyncConnection) -> int:
    """The server's process that a connection was given to when it was made."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    named: int = driver.get_server_pid() if hasattr(driver, "get_server_pid") else driver.info.backend_pid
    return named


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


def _notices(triggers: int, queue: float, listened: bool) -> Iterator[Finding]:
    """Check the notices of changes that the caches of several processes wait for."""
    if triggers < len(NOTICE_TRIGGERS):
        advice = "Run `sqlsessions upgrade`, or create them on a table that you made yourself."
        seen = "the table sessions has no triggers for them: every read of a cache goes to the database"
        yield Finding("notices", State.NOTE, seen, advice)
    elif queue > FULL_QUEUE:
        advice = "Somebody who listens takes no notices: look for a transaction that stays open after LISTEN."
        yield Finding("notices", State.NOTE, f"their queue is {share(round(100 * queue), 100)} full", advice)
    elif listened:
        yield Finding("notices", State.OK, "sent, since caches listen")


def _heap_only(updates: int, hot: int, fillfactor: int) -> Finding:
    seen = f"{share(hot, updates)} of {updates:,} updates; fillfactor is {fillfactor}"
    if updates >= ENOUGH_UPDATES and hot < GOOD_HOT_SHARE * updates:
        advice = (
            f"Lower it: ALTER TABLE sessions SET (fillfactor = {max(50, fillfactor - 15)}); it takes "
            "effect as rows are rewritten. Indexes of your own on changing columns cost HOT too."
        )
        return Finding("HOT updates", State.NOTE, seen, advice)
    return Finding("HOT updates", State.OK, seen)
