"""Places that peers write to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from sqlsessions.testing import ManualClock

from .support import redis_or_skip


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async for client in redis_or_skip():
        yield client
