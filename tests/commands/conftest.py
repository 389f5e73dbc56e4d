"""The commands get their URL from the tests alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sqlsessions import schema


@pytest.fixture(autouse=True)
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SQLSESSIONS_URL", raising=False)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], str]:
    """Makes a SQLite file with our tables, and gives its URL."""

    def made() -> str:
        url = f"sqlite:///{tmp_path / 'sessions.db'}"
        asyncio.run(schema.upgrade(url))
        return url

    return made
