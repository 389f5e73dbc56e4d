"""Diagnosis of MariaDB and MySQL."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar

from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ..dialects.mysql_session import CHARACTER_SETS, CHARSET, session_obstacles
from ..models import EARLIER_NOTING_TRIGGERS, NOTICED, NOTING_TRIGGERS, metadata
from .base import Diagnosis, Finding, Plan, State, connections, durable, encrypted, privileges, rights, scalar
from .humanize import size

ENGINES = (
    "SELECT table_name, engine FROM information_schema.tables "
    "WHERE table_schema = database() AND table_name IN :tables"
)

NOTICES = """
    SELECT
        (SELECT count(*) FROM information_schema.triggers
         WHERE trigger_schema = database() AND trigger_name IN :triggers),
        (SELECT count(*) FROM information_schema.triggers
         WHERE trigger_schema = database() AND trigger_name IN :earlier),
        (SELECT table_rows FROM information_schema.tables
         WHERE table_schema = database() AND table_name = 'session_notices'),
        (SELECT count(*) FROM session_chunks WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq = :noticed)
"""
MANY_NOTICES = 100_000


PROBES = {
    "SELECT": "EXPLAIN SELECT version FROM {} WHERE version < 0",
    "INSERT": "EXPLAIN INSERT INTO {} (version) VALUES (0)",
    "UPDATE": "EXPLAIN UPDATE {} SET version = 0 WHERE version < 0",
    "DELETE": "EXPLAIN DELETE FROM {} WHERE version < 0",
}
"""For each right a statement that needs it, and that is only explained."""


LOCAL = ("localhost", "127.0.0.1", "::1")


class MySQLDiagnosis(Diagnosis):
    clock: ClassVar = "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6))"
    version: ClassVar = (
        "SELECT if(version() LIKE '%MariaDB%', concat('MariaDB ', substring_index(version(), '-', 1)), "
        "concat('MySQL ', version()))"
    )

    async def settings(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        found = await connection.execute(text("SHOW GLOBAL VARIABLES"))
        values = {str(name).lower(): str(value) for name, value in found}
        if values.get("read_only", "OFF") in ("ON", "1"):
            seen = "read_only is on: this server is a replica, or locked"
            yield Finding("writable", State.PROBLEM, seen, "Point the URL at the primary.")
        else:
            yield Finding("writable", State.OK, "yes")
        yield durable(
            "innodb_flush_log_at_trx_commit",
            values["innodb_flush_log_at_trx_commit"],
            ("1",),
            "a power loss may undo the last commits",
        )
        doublewrite = values.get("innodb_doublewrite", "ON")
        good = ("on", "1", "detect_and_recover")
        yield durable("innodb_doublewrite", doublewrite, good, "a power loss may destroy pages")
        yield _binary_log(values)
        yield _isolation(values)
        for finding in _sessions(values):
            yield finding
        # One that is too small is refused with the connection, as is a binary log of statements.
        yield Finding("max_allowed_packet", State.OK, size(int(values["max_allowed_packet"])))
        used = await connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'"))
        threads = next((int(value) for _, value in used), None)
        yield connections(plan, int(values["max_connections"]), "max_connections", threads)
        if values.get("wsrep_on", "OFF") in ("ON", "1"):
            yield _cluster(values)

    async def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        tables = sorted(metadata.tables)
        yield rights([(table, lacks) for table in tables if (lacks := await _lacking(connection, table))])
        engines = text(ENGINES).bindparams(bindparam("tables", tables, expanding=True))
        found = await connection.execute(engines)
        others = [f"{name} is {engine}" for name, engine in found if engine != "InnoDB"]
        if others:
            advice = "ALTER TABLE ... ENGINE = InnoDB, for each of them."
            yield Finding("engine", State.PROBLEM, f"{', '.join(others)}: no transactions", advice)
        else:
            yield Finding("engine", State.OK, "InnoDB")
        wanted = text(NOTICES).bindparams(
            bindparam("triggers", [*NOTING_TRIGGERS], expanding=True),
            bindparam("earlier", [*EARLIER_NOTING_TRIGGERS], expanding=True),
            noticed=NOTICED,
        )
        for finding in _notices(*(await connection.execute(wanted)).one()):
            yield finding

    async def access(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        found = await connection.execute(text("SHOW SESSION STATUS LIKE 'Ssl_cipher'"))
        cipher = next((str(value) for _, value in found), "")
        host = str(await scalar(connection, "SELECT substring_index(user(), '@', -1)"))
        yield encrypted(cipher or None, local=host in LOCAL)
        yield privileges_of([str(each[0]) for each in await connection.execute(text("SHOW GRANTS"))])

    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        return None  # the figures of information_schema may be hours old


def _notices(triggers: int, earlier: int, waiting: int | None, noticed: int) -> Iterator[Finding]:
    """Check the notices of changes that the caches of several processes poll."""
    if triggers < len(NOTING_TRIGGERS):
        if earlier == len(EARLIER_NOTING_TRIGGERS):
            seen = "triggers of an earlier revision leave them: writes of several processes may deadlock and be repeated"
        else:
            seen = (
                "this user sees no triggers that leave them: caches are behind by up to their max_staleness"
            )
        advice = (
            "As a user with TRIGGER, and SUPER or log_bin_trust_function_creators if there is a binary log: run "
            "`sqlsessions downgrade sqlsessions_0004`, then `sqlsessions upgrade`."
        )
        yield Finding("notices", State.NOTE, seen, advice)
    elif waiting is not None and waiting > MANY_NOTICES:
        advice = "Run `sqlsessions purge`, which deletes them."
        yield Finding("notices", State.NOTE, f"about {waiting:,} wait, more than caches take", advice)
    elif noticed:
        yield Finding("notices", State.OK, "left, since caches poll them")


async def _lacking(connection: AsyncConnection, table: str) -> str:
    """The rights on a table that the user lacks."""
    found = []
    for right, probe in PROBES.items():
        try:
            await connection.execute(text(probe.format(table)))
        except DBAPIError as error:
            # Some other objection to the statement says that the right is there.
            if f"{right} command denied" in str(error.orig):
                found.append(right)
    return ", ".join(found)


def privileges_of(grants: list[str]) -> Finding:
    """Check what grants allow, as the server writes them."""
    administers = changes = False
    for grant in grants:
        if (found := re.match(r"GRANT (.+?) ON (\S+) TO ", grant)) is None:
            continue  # of a role
        words = {word.strip() for word in found[1].split(",")}
        changes |= bool(words & {"ALL PRIVILEGES", "CREATE", "ALTER", "DROP"})
        administers |= found[2] == "*.*" and bool(words & {"ALL PRIVILEGES", "SUPER", "CREATE USER"})
    return privileges(administers=administers, changes_tables=changes)


def _binary_log(values: dict[str, str]) -> Finding:
    if values.get("log_bin", "OFF") not in ("ON", "1"):
        return Finding("sync_binlog", State.OK, "there is no binary log")
    synced = values.get("sync_binlog", "0")
    if synced == "1":
        return Finding("sync_binlog", State.OK, "1")
    seen = f"{synced}: after a power loss, replicas may lack or have commits that this server has not"
    return Finding("sync_binlog", State.NOTE, seen, "Set sync_binlog to 1.")


def _isolation(values: dict[str, str]) -> Finding:
    level = values.get("transaction_isolation") or values.get("tx_isolation", "")
    if level == "SERIALIZABLE":
        seen = f"{level}: every read locks"
        return Finding("isolation", State.NOTE, seen, "READ-COMMITTED is enough for sessions.")
    if level == "READ-UNCOMMITTED":
        seen = f"{level}: a read may see a write that is rolled back"
        return Finding("isolation", State.PROBLEM, seen, "Set it to READ-COMMITTED.")
    return Finding("isolation", State.OK, level)


def _sessions(values: dict[str, str]) -> Iterator[Finding]:
    """What new connections begin with; ours are set up otherwise, an application's own may not be."""
    found = False
    for name, seen, advice in session_obstacles(values | dict.fromkeys(CHARACTER_SETS, CHARSET)):
        found = True
        state = State.PROBLEM if name == "sql_mode" else State.NOTE
        yield Finding(name, state, f"{seen}; a storage with a URL sets its own", advice)
    if not found:
        yield Finding("sql_mode", State.OK, values.get("sql_mode") or "none")


def _cluster(values: dict[str, str]) -> Finding:
    wait = int(values.get("wsrep_sync_wait", "0"))
    if wait & 1:
        return Finding("cluster", State.OK, f"wsrep_sync_wait is {wait}: reads wait for what was committed")
    return Finding(
        "cluster",
        State.NOTE,
        f"wsrep_sync_wait is {wait}: a read may miss what was just written on another node",
        "Set wsrep_sync_wait to 1 for the service's connections, or let it use one node.",
    )
