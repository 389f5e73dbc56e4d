"""A crowd on few sessions: what the operations of several processes wait for never goes round in a circle."""

from __future__ import annotations

import pytest

from benchmarks.crowd import crowd
from sqlsessions import DEFAULT, SqlSessionStorage
from sqlsessions.sql.batching.operations import Delete, Touch, Write, parted
from sqlsessions.sql.statements.single import ExplicitOptions

from ..sql.support import each_server_and_mysql

SECONDS = 5.0


@each_server_and_mysql
@pytest.mark.timeout(120)
async def test_mixed_operations_of_several_processes_do_not_deadlock(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        found = await crowd(
            storage._database.url.render_as_string(hide_password=False), 3, 40, SECONDS, mixed=True
        )
    assert found["calls"] > 0
    assert (found["deadlocks"], found["failed"]) == (0, 0)


async def test_what_makes_rows_goes_apart_from_all_else() -> None:
    def write(id: bytes, if_match: int | None, *, ttl: bool = False) -> Write:
        return Write(id, 1, lambda _now: (), ExplicitOptions(ttl, False, False), if_match, 0)

    plain, other, first = write(b"1", None), write(b"2", None, ttl=True), write(b"3", 0)
    match, touch, end = write(b"4", 7), Touch(b"5", DEFAULT, None), Delete(b"6", -5)
    seen = write(b"7", None)
    seen.before = 6
    assert parted([plain, match, other, touch, first, seen, end]) == [
        [plain],
        [match, touch, seen, end],
        [other],
        [first],
    ]
    assert parted([plain, seen]) == [[plain, seen]]
