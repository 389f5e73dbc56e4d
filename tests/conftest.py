"""Fixtures for every test."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlsessions.testing import IntegrationContract
from sqlsessions.testing._base import Contract

from .databases import AGAIN, DATABASES, MIGRATED, SERVED_BY, available, migrated

SERVERS = {name for pair in SERVED_BY.items() if pair[1] != "sqlite" for name in pair}
"""The databases that are servers, and their drivers, as tests are parametrized with them."""

PAIRS = {"mysql+aiomysql", "MySQL+asyncmy"}
"""Of a driver and a server, of which each has the contract with another one besides."""

# What is traced for coverage takes almost twice as long. So what goes through the same lines as the rest is not: the
# contract on further storages and frameworks, and what tries the same calls again, cut off at each of their steps.
TRACED = (
    "cache", "schema", "sql", "integrations", "archive", "commands", "observability", "moving", "fuzz", "layers",
    "test_capping.py", "test_purging.py", "test_contract_ended.py", "test_contract_memory.py", "test_contract_sql.py",
    "test_contract_uses.py",
    "faults/test_pgbouncer.py", "faults/test_replicas.py",
)  # fmt: skip
CONTRACTS = ("TestMemory", "TestInMemory", "TestStarlette", "TestLitestar")
AT_EACH_STEP = (
    "layers/test_ciphertext.py", "sql/test_cancellation.py", "sql/test_lost_setup.py", "sql/test_model_sql.py",
    "sql/test_mysql_settings.py",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that `make quick` can leave them out, and those that are not traced."""
    traces = config.pluginmanager.hasplugin("_cov")
    for item in items:
        if isinstance(item, pytest.Function):
            chosen = set(parameters(item))
            if is_contract(item) and chosen & PAIRS:
                item.add_marker("variant")
            if SERVERS & chosen or "tls_servers" in item.fixturenames:
                item.add_marker("server")
            if traces and not is_traced(item, chosen):
                item.add_marker("no_cover")


def is_contract(item: pytest.Function) -> bool:
    """Whether a test is one of a contract."""
    return item.cls is not None and issubclass(item.cls, (Contract, IntegrationContract))


def is_traced(item: pytest.Function, chosen: set[str]) -> bool:
    """Whether coverage counts a test."""
    if is_contract(item) and item.cls.__name__ not in CONTRACTS:
        return False
    path = item.path.relative_to(Path(__file__).parent)
    within = any(path.is_relative_to(each) for each in TRACED)
    return within and path.as_posix() not in AT_EACH_STEP and not AGAIN & chosen


def parameters(item: pytest.Function) -> Iterator[str]:
    """The strings that a test is parametrized with, also those within tuples."""
    for value in item.callspec.params.values() if hasattr(item, "callspec") else ():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str):
                yield part


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, a line for each reason."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.getreports("skipped"))
    if reasons:
        terminalreporter.section("skipped")
    for reason, number in reasons.most_common():
        terminalreporter.line(f"{number:>6} {reason.removeprefix('Skipped: ')}")


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new, empty database, for every database and driver."""
    made_by = available(SERVED_BY[request.param])
    url = made_by.create()
    yield url.set(drivername=request.param.lower()).render_as_string(hide_password=False)
    made_by.drop(url)


@pytest.fixture(params=DATABASES)
def sql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database with our tables and no sessions, for every database and driver."""
    kind = SERVED_BY[request.param]
    made_by = available(kind)
    url = made_by.lend(migrated(kind))
    yield url.set(drivername=request.param.lower()).render_as_string(hide_password=False)
    made_by.take_back(url)


@pytest.fixture(scope="session", autouse=True)
def _drop_databases() -> Iterator[None]:
    yield
    for kind, url in MIGRATED.items():
        available(kind).drop(url)


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """Frameworks configure the root logger: what one test's did must not reach the next."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
