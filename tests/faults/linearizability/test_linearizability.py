"""What four processes see of one database is linearizable, whatever breaks: for a few seconds, and at length."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import schema

from ...sql.support import NETWORK, each_database, postgresql
from ..servers.galera import galera
from ..servers.mariadb import mariadb_server
from ..servers.pgbouncer import pgbouncer
from ..servers.postgres import postgres_server
from .clients import Habits
from .judging import Findings, judge
from .recorder import Plan

QUICK = Habits(operations=12)
SECONDS = 40.0  # of each test at length
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
