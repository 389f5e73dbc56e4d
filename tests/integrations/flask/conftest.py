"""Fixtures of the tests of Flask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from sqlsessions.integrations._web.portal import run

from ..support import Spy
from .app import (
    app_of,
)


@pytest.fixture
def storage(storage: Spy) -> Iterator[Spy]:
    """The storage of other tests, closed in the event loop that Flask's requests use it from."""
    yield storage
    run(storage.aclose())


@pytest.fixture
def client(storage: Spy) -> FlaskClient:
    return app_of(storage).test_client()
