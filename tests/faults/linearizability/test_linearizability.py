"""What four processes see of one database is linearizable, whatever breaks: for a few seconds, and at length."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import schema

from ...sql.support import NETWORK, each_database, each_database_and_mysql, postgresql
from ..servers.galera import galera
from ..servers.mariadb import mariadb_server
from ..servers.pgbouncer import pgbouncer
from ..servers.postgres import postgres_server
from .clients import WEIGHTS, Habits
from .judging import Findings, judge
from .recorder import Plan

QUICK = Habits(operations=12)
REDIS = os.environ.get("SQLSESSIONS_TEST_REDIS", "redis://127.0.0.1:6379")
SECONDS = 40.0  # of each test at length
CALLS = int(os.environ.get("SQLSESSIONS_HISTORY_CALLS", "200000"))
MOST_SECONDS = 900.0  # of each test with many calls
READ_MOSTLY = {
    "load": 150, "read": 6, "info": 4, "touch": 4, "write": 12, "write if": 8, "invalidate": 1, "end": 1, "rotate": 3,
}  # fmt: skip
# PgBouncer's transaction pooling, before 1.21, knows no prepared statements.
UNPREPARED: dict[str, Any] = {
    "engine_options": {"connect_args": {"statement_cache_size": 0, "prepared_statement_cache_size": 0}}
}
# Without it, a node may not have applied what another has acknowledged.
SYNCED: dict[str, Any] = {
    "engine_options": {"connect_args": {"init_command": "SET SESSION wsrep_sync_wait = 1"}}
}


async def clean(plan: Plan, **how: Any) -> Findings:
    """Record histories, none of which fails; what does is kept, for `test_kept`."""
    findings = await judge(plan, **how)
    print(findings)  # noqa: T201 (what `pytest -rP` shows of a test that passes)
    assert findings.clean, str(findings)
    assert all(findings.faults[fault] for fault in plan.faults - {"cancel"}), str(findings)
    many = findings.operations > 1000
    for kind in ("load", "write", *(("read", "touch", "invalidate", "end", "rotate") if many else ())):
        assert findings.outcomes[f"{kind} ok"], f"no {kind} succeeded"
    return findings


@pytest.mark.long
@each_database
async def test_processes_that_are_killed_and_stopped(sql_url: str) -> None:
    plan = Plan([sql_url], frozenset({"cancel", "kill", "stop"}), habits=QUICK)
    findings = await clean(plan, histories=2)
    assert findings.unknown


@postgresql
async def test_connections_that_are_lost(sql_url: str) -> None:
    await clean(Plan([sql_url], frozenset({"cut"}), clients=2, habits=QUICK), histories=2)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite", *NETWORK], indirect=True)
@pytest.mark.parametrize("faults", ["", "cancel stop", "kill", "cut"])
async def test_at_length(sql_url: str, faults: str) -> None:
    if faults == "cut" and sql_url.startswith("sqlite"):
        pytest.skip("SQLite has no connections to lose")
    await clean(Plan([sql_url], frozenset(faults.split())), seconds=SECONDS)


@pytest.mark.parametrize(
    "sql_url",
    ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"],
    indirect=True,
)
@pytest.mark.parametrize("strict", [True, False])
async def test_caches_of_processes_that_are_stopped(sql_url: str, strict: bool) -> None:
    """A strict cache is as good as none, and so is one on SQLite; another is behind by its bound at most."""
    await clean(cached(sql_url, "stop", strict=strict), histories=2)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite", *NETWORK], indirect=True)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("faults", ["stop", "kill", "cut"])
async def test_caches_at_length(sql_url: str, strict: bool, faults: str) -> None:
    if faults == "cut" and sql_url.startswith("sqlite"):
        pytest.skip("SQLite has no connections to lose")
    await clean(cached(sql_url, faults, strict=strict), seconds=SECONDS)


def cached(url: str, faults: str, *, strict: bool, bound: float = 0.05, bus: str | None = None) -> Plan:
    """Workers with caches, whose bound is as short as a history."""
    exact = strict or url.startswith("sqlite")
    return Plan(
        [url],
        frozenset(faults.split()),
        habits=QUICK,
        options={"cache": {"strict": strict, "max_staleness": bound}},
        bus=bus,
        staleness=0.0 if exact else bound,
    )


def told(url: str, faults: str, *, bound: float = 0.1, **options: Any) -> Plan:
    """Workers with caches that learn of changes by their bus alone, which is behind by so much at most."""
    return Plan(
        [url],
        frozenset(faults.split()),
        habits=replace(QUICK, weights=tuple((WEIGHTS | {"load": 60}).items())),
        options={"cache": {"max_staleness": 3600}, "bound": bound, **options},
        bus=url if "bus" in faults else None,
        staleness=0.0 if url.startswith("sqlite") else bound,
    )


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
async def test_caches_that_learn_by_their_bus_alone(sql_url: str) -> None:
    faults = "stop bus" if sql_url.startswith("postgresql") else "stop"
    await clean(told(sql_url, faults), histories=3)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite", *NETWORK], indirect=True)
@pytest.mark.parametrize("faults", ["stop bus", "kill", "cut"])
async def test_caches_that_learn_by_their_bus_alone_at_length(sql_url: str, faults: str) -> None:
    """What is cut, paused and away is the connection of the bus where it has one, else all."""
    if sql_url.startswith("sqlite"):
        faults = faults.replace("stop bus", "stop")
    if faults == "cut" and sql_url.startswith("sqlite"):
        pytest.skip("SQLite has no connections to lose")
    await clean(told(sql_url, faults), seconds=SECONDS)


@pytest.mark.long
@pytest.mark.timeout(400)
@postgresql
@pytest.mark.parametrize("faults", ["stop bus", "kill"])
async def test_caches_with_redis_at_length(sql_url: str, faults: str) -> None:
    """Who cannot reach it, or is killed before it was told, leaves the others to the bound of their caches."""
    await clean(cached(sql_url, faults, strict=False, bus=REDIS), seconds=SECONDS)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
@pytest.mark.parametrize("many", [False, True])
async def test_a_bus_that_gives_no_notices_is_found_out(sql_url: str, tmp_path: Path, many: bool) -> None:
    plan = told(sql_url, "stop", mute=True)
    findings = await judge(busy(plan) if many else plan, histories=10, keep_in=tmp_path)
    assert findings.verdicts["violation"], str(findings)


def busy(plan: Plan) -> Plan:
    """The same with many sessions at the same time, which are mostly read, so that caches hold most of them."""
    habits = Habits(operations=96, weights=tuple(READ_MOSTLY.items()))
    return replace(plan, together=16, habits=habits)


@pytest.mark.long
@pytest.mark.timeout(MOST_SECONDS + 300)
@each_database_and_mysql
async def test_many_calls_of_caches_that_learn_by_their_bus_alone(sql_url: str) -> None:
    faults = "stop" if sql_url.startswith("sqlite") else "stop bus"
    await clean(busy(told(sql_url, faults, bound=0.25)), operations=CALLS, seconds=MOST_SECONDS)


@pytest.mark.long
@pytest.mark.timeout(MOST_SECONDS + 300)
@each_database_and_mysql
async def test_many_calls_of_strict_caches(sql_url: str) -> None:
    await clean(busy(cached(sql_url, "stop", strict=True)), operations=CALLS // 4, seconds=MOST_SECONDS)


@pytest.mark.long
@pytest.mark.timeout(MOST_SECONDS + 300)
@postgresql
async def test_many_calls_of_caches_with_redis(sql_url: str) -> None:
    plan = busy(cached(sql_url, "stop bus", strict=False, bound=0.25, bus=REDIS))
    await clean(plan, operations=CALLS, seconds=MOST_SECONDS)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_postgresql_is_killed() -> None:
    with postgres_server() as server, migrated([server.create_database()], "postgresql+asyncpg") as urls:
        plan = Plan(urls, frozenset({"server"}), clients=2, servers=[server])
        asyncio.run(clean(plan, seconds=SECONDS))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_mariadb_is_killed() -> None:
    with mariadb_server() as server, migrated([server.create_database()], "mysql+asyncmy") as urls:
        plan = Plan(urls, frozenset({"server"}), clients=2, servers=[server])
        asyncio.run(clean(plan, seconds=SECONDS))


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("faults", ["", "kill stop", "cut", "pooler", "server"])
def test_by_way_of_pgbouncer(faults: str) -> None:
    with (
        postgres_server() as server,
        migrated([server.create_database()], "postgresql+asyncpg") as [direct],
        pgbouncer(direct) as pooler,
    ):
        killed = frozenset(faults.replace("pooler", "server").split())
        servers = [pooler] if faults == "pooler" else [server]
        plan = Plan([pooler.by_way(direct)], killed, clients=2, servers=servers, options=UNPREPARED)
        asyncio.run(clean(plan, seconds=SECONDS / 2))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_galera_with_one_storage_for_each_node() -> None:
    with galera() as cluster, migrated(cluster.create_database(), "mysql+asyncmy") as urls:
        for faults in ("", "cancel kill stop", "cut", "server"):
            plan = Plan(
                urls, frozenset(faults.split()), processes=3, clients=2, servers=cluster.nodes, options=SYNCED
            )
            asyncio.run(clean(plan, seconds=SECONDS))


@contextmanager
def migrated(urls: list[str], driver: str) -> Iterator[list[str]]:
    """The URLs of a database with our tables, for a driver."""
    given = [make_url(url).set(drivername=driver).render_as_string(hide_password=False) for url in urls]
    asyncio.run(schema.upgrade(given[0]))
    yield given
