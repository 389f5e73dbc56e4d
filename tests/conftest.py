"""Fixtures for every test."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from .databases import DATABASES, MIGRATED, SERVED_BY, available, migrated

SERVERS = {name for pair in SERVED_BY.items() if pair[1] != "sqlite" for name in pair}
"""The databases that are servers, and their drivers, as tests are parametrized with them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that `make quick` can leave them out."""
    for item in items:
        if isinstance(item, pytest.Function) and (
            SERVERS & set(parameters(item)) or "tls_servers" in item.fixturenames
        ):
            item.add_marker("server")


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
