"""Logins and logouts of browsers that poll; `python -m tests.faults.logins` does many."""

from __future__ import annotations

import pytest

from .logins.harness import run
from .logins.service import FRAMEWORKS


@pytest.mark.parametrize(
    ("framework", "sql_url"),
    [
        *((framework, "postgresql+asyncpg") for framework in FRAMEWORKS),
        ("starlette", "sqlite+aiosqlite"),
        ("starlette", "mysql+asyncmy"),
    ],
    indirect=["sql_url"],
)
def test_browsers_that_poll_lose_nothing(framework: str, sql_url: str) -> None:
    losses = run(sql_url, framework=framework, logins=16, browsers=8, delay=0.05)
    assert losses.total == 0, losses.examples
    assert losses.rounds == 16
