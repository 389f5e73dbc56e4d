"""Fixtures of the tests of Flask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import SpyStorage

from .app import (
    app_of,
)


@pytest.fixture
def storage(storage: SpyStorage) -> Iterator[SpyStorage]:
    """The storage of other tests, closed in the event loop that Flask's requests use it from."""
    yield storage
    run(storage.aclose())


@pytest.fixture
def client(storage: SpyStorage) -> FlaskClient:
    return app_of(storage).test_client()
