"""aiosqlite without SQLAlchemy in between: one hop into its thread for a batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from typing import Any, TypeVar

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects.sqlite.aiosqlite import dialect

from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import Operation, Read, Row, Touch, Write
from ..engine.database import Database
from ..models import TOMBSTONE, sessions
from ..statements.single import (
    INLINE,
    READ_CHUNKS,
    RECORD,
    TOUCH,
    WRITE_CHUNK,
    ExplicitOptions,
    conditional,
    live_at,
    parameter,
    upsert,
)

T = TypeVar("T")
c = sessions.c


class AiosqliteDriver(Driver[Any]):
    """BatchExecutor over aiosqlite's own connections, taken from SQLAlchemy's pool."""

    inline_reads = True  # the thread finishes what it began, and the next one waits for that

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._upsert = cache(self._upsert_statement)
        self._conditional = cache(self._conditional_statement)

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.driver_connection(writes=writes)

    async def read(self, connection: Any, reads: Sequence[Read]) -> list[Row | None]:
        if len(reads) == 1:
            [read] = reads
            return [await _in_thread(connection, partial(_one, read), begin=None)]

        def select(raw: sqlite3.Connection) -> list[Row | None]:
            execute = raw.execute
            return [execute(_SELECT[read.data], (read.digest,)).fetchone() for read in reads]

        # In a transaction, the lock that a reader takes on the file is taken once for all.
        return await _in_thread(connection, select, begin="BEGIN")

    async def write(self, connection: Any, changes: Sequence[Operation]) -> list[Any]:
        def change(raw: sqlite3.Connection) -> list[Any]:
            return [self._change(raw, change) for change in changes]

        return await _in_thread(connection, change, begin="BEGIN IMMEDIATE")

    async def read_chunks(self, connection: Any, wanted: Chunks) -> Sequence[Row]:
        return await _in_thread(connection, partial(_fetch, _READ_CHUNKS, wanted.values), begin=None)

    async def write_chunk(self, connection: Any, chunk: Chunk) -> None:
        await _in_thread(connection, partial(_fetch, _WRITE_CHUNK, chunk.values), begin="BEGIN IMMEDIATE")

    def _change(self, raw: sqlite3.Connection, change: Operation) -> Any:
        if isinstance(change, Write):
            if change.if_match:
                sql, order = self._conditional(change.given)
                values = (*change.row, change.if_match)
            else:
                sql, order = self._upsert(change.given, change.if_match == 0)
                values = change.row
            return raw.execute(sql, [values[place] for place in order]).fetchone()
        if isinstance(change, Touch):
            sql, order = _TOUCH
            return raw.execute(sql, [change.values[place] for place in order]).rowcount > 0
        return _end(change, raw)

    def _upsert_statement(self, given: ExplicitOptions, absent: bool) -> tuple[str, list[int]]:
        return _sql(upsert(self._dialect, given, absent=absent), [*c.keys()])

    def _conditional_statement(self, given: ExplicitOptions) -> tuple[str, list[int]]:
        return _sql(conditional(self._dialect, given), [*c.keys(), "if_match"])


async def _in_thread(connection: Any, work: Callable[[sqlite3.Connection], T], *, begin: str | None) -> T:
    """Run something in the connection's thread, in a transaction if one is to begin."""

    # A closure, since aiosqlite logs what it runs together with its arguments.
    def run() -> T:
        raw: sqlite3.Connection = connection._conn  # noqa: SLF001 (the connection that the thread serves)
        if begin is None:
            return work(raw)
        raw.execute(begin)
        try:
            result = work(raw)
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        return result

    result: T = await connection._execute(run)  # noqa: SLF001 (the way into the thread)
    return result


def _one(read: Read, raw: sqlite3.Connection) -> Row | None:
    row: Row | None = raw.execute(_SELECT[read.data], (read.digest,)).fetchone()
    return row


def _end(ending: Any, raw: sqlite3.Connection) -> bool:
    gone = raw.execute(_DELETE, (ending.digest, ending.now)).fetchone()
    if gone is not None:
        tombstone = {
            "version": ending.version,
            "id": ending.digest,
            "seq": TOMBSTONE,
            "data": gone[0].to_bytes(8, "big"),
        }
        sql, order = _WRITE_CHUNK
        values = list(tombstone.values())
        raw.execute(sql, [values[place] for place in order])
    return gone is not None


def _fetch(statement: tuple[str, list[int]], values: Sequence[Any], raw: sqlite3.Connection) -> list[Row]:
    sql, order = statement
    return raw.execute(sql, [values[place] for place in order]).fetchall()


def _sql(statement: Any, names: Sequence[str]) -> tuple[str, list[int]]:
    """A statement as sqlite3 takes it, and which of the named values goes where in it."""
    compiled = statement.compile(dialect=dialect())
    return str(compiled), [names.index(name.removeprefix("p_")) for name in compiled.positiontup]


_SELECT = {
    data: _sql(select(c.id, *RECORD, *([c.data] if data else [])).where(c.id == parameter("id")), ["id"])[0]
    for data in (False, True)
}
_TOUCH = _sql(TOUCH, Touch.names)
_READ_CHUNKS = _sql(READ_CHUNKS, Chunks.names)
_WRITE_CHUNK = _sql(WRITE_CHUNK, Chunk.names)
_DELETE = _sql(
    delete(sessions)
    .where(c.id == parameter("id"), INLINE, live_at(bindparam("p_now", type_=c.updated_at.type)))
    .returning(c.version),
    ["id", "now"],
)[0]
