"""Diagnosis of MariaDB and MySQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from .base import Diagnosis, Finding, Plan, State, connections, durable
from .humanize import size

LARGEST_PACKET = 5 * 1024 * 1024
"""The largest statement, in bytes: a batch of 2 MiB and a session, each byte escaped."""

ENGINES = (
    "SELECT table_name, engine FROM information_schema.tables "
    "WHERE table_schema = database() AND table_name IN ('sessions', 'session_chunks')"
)


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
        packet = int(values["max_allowed_packet"])
        if packet < LARGEST_PACKET:
            seen = f"{size(packet)}: many writes at once may not fit into one statement"
            advice = f"Set it to at least {size(LARGEST_PACKET)}; 16 MiB is usual."
            yield Finding("max_allowed_packet", State.PROBLEM, seen, advice)
        else:
            yield Finding("max_allowed_packet", State.OK, size(packet))
        used = await connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'"))
        threads = next((int(value) for _, value in used), None)
        yield connections(plan, int(values["max_connections"]), "max_connections", threads)
        if values.get("wsrep_on", "OFF") in ("ON", "1"):
            yield _cluster(values)

    async def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        found = await connection.execute(text(ENGINES))
        others = [f"{name} is {engine}" for name, engine in found if engine != "InnoDB"]
        if others:
            advice = "ALTER TABLE ... ENGINE = InnoDB, for each of them."
            yield Finding("engine", State.PROBLEM, f"{', '.join(others)}: no transactions", advice)
        else:
            yield Finding("engine", State.OK, "InnoDB")

    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        return None  # the figures of information_schema may be hours old


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
