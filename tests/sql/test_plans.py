"""How SQLite finds the sessions of a subject: a page costs the same, however many there are."""

from __future__ import annotations

import asyncio

from sqlsessions import SqlSessionStorage
from sqlsessions.sql.statements.listing import PAGE

from .support import INLINE, query, sqlite, statements


async def plans(url: str, made: list[str]) -> list[str]:
    """The plan of each SELECT by a subject."""
    selects = [each for each in made if each.startswith("SELECT") and "sessions.subject =" in each]
    found = [await query(url, f"EXPLAIN QUERY PLAN {each}") for each in selects]
    return ["; ".join(str(step[-1]) for step in plan) for plan in found]


@sqlite
async def test_a_page_of_a_subject_is_found_by_the_index(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, pool_size=1) as storage:
        ids = [f"id {number}" for number in range(PAGE + 1)]
        await asyncio.gather(*(storage.write_bytes(id, INLINE, subject="ann") for id in ids))
        async with statements(storage) as made:
            listed = [info async for info in storage.sessions("ann")]
        of_list = await plans(sql_url, made)
        async with statements(storage) as made:
            revoked = await storage.revoke("ann")
        of_revocation = await plans(sql_url, made)
    assert len(listed) == revoked == PAGE + 1
    assert "ix_sessions_subject (subject=? AND created_at<?)" in of_list[1]
    assert len(of_revocation) > 1
    assert all("ix_sessions_subject" in plan and "TEMP B-TREE" not in plan for plan in of_revocation)
