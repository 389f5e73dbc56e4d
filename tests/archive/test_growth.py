"""Imports that make the table much larger than it was when statements were planned."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from sqlsessions import SqlSessionStorage
from sqlsessions.archive.importing import Growth
from sqlsessions.sql.internals import internals_of


@pytest.mark.parametrize(
    ("sql_url", "replanned"),
    [("postgresql+asyncpg", True), ("sqlite+aiosqlite", False)],
    indirect=["sql_url"],
)
async def test_statements_are_planned_anew(sql_url: str, replanned: bool) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        await storage.write_bytes("id", b"data")
        seen: list[str] = []

        @event.listens_for(storage.engine.sync_engine, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        growth = Growth(internals_of(storage))
        for count in (999, 1, 8_999, 0, 1):
            await growth.add(count)
        assert [each for each in seen if "ANALYZE" in each] == ["ANALYZE sessions"] * 2 * replanned
