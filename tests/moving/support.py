"""What the tests of moving share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import URL

from sqlsessions.moving import DjangoTable

from ..databases import REQUIRED

ROOT = Path(__file__).parent.parent.parent
REDIS = os.environ.get("SQLSESSIONS_TEST_REDIS", "redis://127.0.0.1:6379")
SECRET_KEY = "of the tests"


def django_sessions(url: URL) -> dict[str, str]:
    """Have Django write sessions to a database; their keys."""
    backend = "sqlite3" if url.get_backend_name() == "sqlite" else "postgresql"
    database: dict[str, Any] = {"ENGINE": f"django.db.backends.{backend}", "NAME": url.database}
    if backend == "postgresql":
        database |= {"USER": url.username, "PASSWORD": url.password, "HOST": url.host, "PORT": url.port}
    command = [sys.executable, "-m", "tests.moving.django_peer", json.dumps(database)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def table(url: URL, **options: Any) -> DjangoTable:
    return DjangoTable(url, [SECRET_KEY], **options)


async def redis_or_skip() -> AsyncIterator[Redis]:
    """A client of a Redis, in which the tests use prefixes of their own."""
    client: Any = Redis.from_url(REDIS, socket_connect_timeout=2)
    try:
        await client.ping()
    except RedisError as error:
        (pytest.fail if REQUIRED else pytest.skip)(f"no server at {REDIS}: {type(error).__name__}")
    yield client
    keys = [key async for key in client.scan_iter(match=f"test{os.getpid()}.*")]
    if keys:
        await client.delete(*keys)
    await client.aclose()
