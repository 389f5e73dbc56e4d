"""Fixtures of the tests of WebSockets and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sqlsessions.testing import SpyStorage

from .connections import Client
from .services import SERVICES


@pytest.fixture(params=SERVICES)
async def client(request: pytest.FixtureRequest, storage: SpyStorage) -> AsyncIterator[Client]:
    async with SERVICES[request.param](storage) as served:
        yield served
    await storage.aclose()
