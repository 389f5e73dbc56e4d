"""Fixtures of the tests of Starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient

from sqlsessions.testing import SpyStorage

from .app import (
    app_of,
    client_of,
)


@pytest.fixture
async def client(storage: SpyStorage) -> AsyncIterator[AsyncClient]:
    async with client_of(app_of(storage)) as client:
        yield client
