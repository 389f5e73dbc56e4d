"""What four processes see of one database is linearizable, whatever breaks: for a few seconds, and at length."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import schema

from ..servers.mariadb import mariadb_server
from ..servers.pgbouncer import pgbouncer
from ..servers.postgres import postgres_server
from .clients import Habits
from .judging import Findings, judge
from .recorder import Plan

QUICK = Habits(operations=15)
WITHOUT_CACHE: dict[str, Any] = {
    "engine_options": {"connect_args": {"statement_cache_size": 0, "prepared_statement_cache_size": 0}}
}
"""PgBouncer's transaction pooling, before 1.21, knows no prepared statements."""


async def clean(plan: Plan, keep_in: Path, **how: Any) -> Findings:
    findings = await judge(plan, keep_in=keep_in, **how)
    assert findings.clean, str(findings)
    assert all(findings.faults[fault] for fault in plan.faults - {"cancel"}), str(findings)
    for kind in ("load", "read", "touch", "write", "invalidate", "end", "rotate"):
        assert findings.outcomes[f"{kind} ok"], f"no {kind} succeeded"
    return findings


@pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
async def test_processes_that_are_killed_and_stopped(sql_url: str, tmp_path: Path) -> None:
    plan = Plan([sql_url], frozenset({"cancel", "kill", "stop"}), habits=QUICK)
    findings = await clean(plan, tmp_path, histories=3)
    assert findings.unknown


@pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
async def test_connections_that_are_lost(sql_url: str, tmp_path: Path) -> None:
    await clean(Plan([sql_url], frozenset({"cut"}), clients=2, habits=QUICK), tmp_path, histories=3)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite", *NETWORK], indirect=True)
@pytest.mark.parametrize("faults", ["", "cancel stop", "kill", "cut"])
async def test_at_length(sql_url: str, faults: str, tmp_path: Path) -> None:
    if faults == "cut" and sql_url.startswith("sqlite"):
        pytest.skip("SQLite has no connections to lose")
    await clean(Plan([sql_url], frozenset(faults.split())), tmp_path, seconds=60)


@contextmanager
def migrated(server: Any, driver: str) -> Iterator[str]:
    url = make_url(server.create_database()).set(drivername=driver)
    shown = url.render_as_string(hide_password=False)
    asyncio.run(schema.upgrade(shown))
    yield shown


