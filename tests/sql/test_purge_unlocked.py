"""A purge on a database that takes SKIP LOCKED and locks nothing, as TiDB does."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from sqlsessions import SqlSessionStorage
from sqlsessions.records import Record
from sqlsessions.sql.models import sessions
from sqlsessions.sql.statements import transactions
from sqlsessions.sql.statements.single import CHUNKED, RECORD
from sqlsessions.testing import ManualClock

from .support import LARGE, TINY, each_server


@each_server
async def test_a_session_that_was_written_meanwhile_stays(
    sql_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        SqlSessionStorage(sql_url, clock=clock, **TINY) as purging,
        SqlSessionStorage(sql_url, clock=clock, **TINY) as writing,
    ):
        await writing.write_bytes("id", LARGE, ttl=10)
        clock.advance(20)
        written = []

        async def locked(
            connection: AsyncConnection, *conditions: Any, **_: Any
        ) -> list[transactions.Stored]:
            rows = await connection.execute(select(sessions.c.id, CHUNKED, *RECORD).where(*conditions))
            found = [transactions.Stored(id, bool(chunked), Record(*values)) for id, chunked, *values in rows]
            monkeypatch.undo()
            written.append(await writing.write_bytes("id", b"new", ttl=100))
            return found

        monkeypatch.setattr(transactions, "locked", locked)
        await purging.purge()
        assert written
        assert await writing.read_bytes("id") == b"new"
