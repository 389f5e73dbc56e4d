"""Fixtures for every test."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .databases import AGAIN, DATABASES, MIGRATED, SERVED_BY, available, migrated

SERVERS = {name for pair in SERVED_BY.items() if pair[1] != "sqlite" for name in pair}
"""The databases that are servers, and their drivers, as tests are parametrized with them."""

# The contract on every driver runs the same lines again, and other tests in processes of their own: tracing all of it
# for coverage would take half as long again.
TRACED = (
    "cache", "schema", "sql", "integrations", "archive", "commands", "observability", "moving", "fuzz", "layers",
    "test_capping.py", "test_purging.py", "test_contract_memory.py", "test_contract_sql.py",
    "faults/test_pgbouncer.py", "faults/test_replicas.py",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that `make quick` can leave them out, and those that are not traced."""
    traces = config.pluginmanager.hasplugin("_cov")
    for item in items:
        if isinstance(item, pytest.Function):
            chosen = set(parameters(item))
            if SERVERS & chosen or "tls_servers" in item.fixturenames:
                item.add_marker("server")
            if traces and not is_traced(item, chosen):
                item.add_marker("no_cover")


def is_traced(item: pytest.Function, chosen: set[str]) -> bool:
    """Whether coverage counts a test."""
    path = item.path.relative_to(Path(__file__).parent)
    contract = path.name.startswith("test_contract") and item.cls is not None
    if (
        contract
        and path.parts[0] in ("test_contract_sql.py", "layers")
        and item.cls.__name__ != "TestInMemory"
    ):
        return False
    return not AGAIN & chosen and any(path.is_relative_to(each) for each in TRACED)


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
