"""Fixtures of the tests of Litestar."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from sqlsessions.testing import SpyStorage

from .app import (
    app_over,
)


@pytest.fixture
async def client(storage: SpyStorage) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with AsyncTestClient(app_over(storage)) as client:
        yield client
