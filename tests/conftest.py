"""Fixtures for every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from .databases import DATABASES, MIGRATED, available, migrated


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new, empty database, for every database and driver."""
    made_by = available(DATABASES[request.param])
    url = made_by.create()
    yield url.set(drivername=request.param).render_as_string(hide_password=False)
    made_by.drop(url)


@pytest.fixture(params=DATABASES)
def sql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database with our tables and no sessions, for every database and driver."""
    kind = DATABASES[request.param]
    made_by = available(kind)
    url = migrated(kind)
    yield url.set(drivername=request.param).render_as_string(hide_password=False)
    made_by.clear(url)


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
