"""Fixtures of the tests of aiohttp-session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sqlsessions.testing import SpyStorage

from .app import (
    Client,
    app_of,
    served,
)


@pytest.fixture
async def client(storage: SpyStorage) -> AsyncIterator[Client]:
    async with served(app_of(storage)) as client:
        yield client
