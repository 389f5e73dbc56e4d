"""Fixtures of the tests of Quart."""

from __future__ import annotations

import pytest
from quart.typing import TestClientProtocol as Client

from sqlsessions.testing import SpyStorage

from .app import (
    app_of,
)


@pytest.fixture(params=[True, False], ids=["lazy", "eager"])
def lazy(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def client(storage: SpyStorage) -> Client:
    return app_of(storage).test_client()
