"""aiosqlite without SQLAlchemy in between: one hop into its thread for a batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from operator import itemgetter
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.dialects.sqlite.aiosqlite import dialect

from ..._validation import is_reserved
from ...records import Record
from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import Delete, KeptDelete, Operation, Read, Row, Touch, Write
from ..dialects import Dialect
from ..dialects.sqlite import machine_time
from ..models import ends, sessions
from ..statements.ends import values_of
from ..statements.single import (
    INLINE,
    PARTS,
    READ_CHUNKS,
    RECORD,
    TOUCHING,
    WRITE_CHUNK,
    ExplicitOptions,
    Extending,
    live_at,
    parameter,
    rewrite,
    rewriting,
    touch,
    upsert,
)

T = TypeVar("T")
c = sessions.c

Ordered = tuple[str, Callable[[Sequence[Any]], Sequence[Any]]]
"""A statement, and what puts its values into the order of its parameters."""

InThread = Coroutine[Any, Any, T]
_execute: Any = aiosqlite.Connection._execute  # noqa: SLF001


class AiosqliteDriver(Driver[Any]):
    """BatchExecutor over aiosqlite's own connections, taken from SQLAlchemy's pool."""

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.driver_connection(writes=writes)

    def read(self, connection: Any, reads: Sequence[Read]) -> InThread[list[Row | None]]:
        def select(raw: sqlite3.Connection) -> list[Row | None]:
            execute = raw.execute
            return [execute(_SELECT[read.part], (read.digest,)).fetchone() for read in reads]

        # In a transaction, the lock that a reader takes on the file is taken once for all.
        return _in_thread(connection, select, begin="BEGIN" if len(reads) > 1 else None)

    def write(self, connection: Any, changes: Sequence[Operation]) -> InThread[list[Any]]:
        def change(raw: sqlite3.Connection) -> list[Any]:
            return [self._change(raw, change) for change in changes]

        if (watch := self._database.watch) is None:
            lone = len(changes) == 1 and not isinstance(changes[0], Delete)  # which is one statement
            return _in_thread(connection, change, begin=None if lone else "BEGIN IMMEDIATE")
        mark: Any = None

        def watched(raw: sqlite3.Connection) -> list[Any]:
            nonlocal mark
            mark = watch.begun(raw)
            return change(raw)

        def committed(raw: sqlite3.Connection, results: list[Any]) -> None:
            watch.committed(raw, mark, changes, results)

        return _in_thread(connection, watched, begin="BEGIN IMMEDIATE", committed=committed)

    def read_chunks(self, connection: Any, wanted: Chunks) -> InThread[Sequence[Row]]:
        return _in_thread(connection, partial(_fetch, _READ_CHUNKS, wanted.values), begin=None)

    async def write_chunk(self, connection: Any, chunk: Chunk) -> None:
        await _in_thread(connection, partial(_fetch, _WRITE_CHUNK, chunk.values), begin="BEGIN IMMEDIATE")

    def _change(self, raw: sqlite3.Connection, change: Operation) -> Any:
        if isinstance(change, Write):
            values, over = (*change.row, change.if_match), bool(change.if_match)
            if (over or change.rewrites) and not any(change.given):
                sql, ordered = _rewrite(self._dialect, over)
                if (found := raw.execute(sql, ordered(values)).fetchone()) is not None:
                    return found
            if over:
                sql, ordered = _conditional(self._dialect, change.given)
                found = raw.execute(sql, ordered(values)).fetchone()
                return found or raw.execute(_SELECT["record"], (change.digest,)).fetchone()
            sql, ordered = _upsert(self._dialect, change.given, change.if_match == 0)
            return raw.execute(sql, ordered(values)).fetchone()
        if isinstance(change, Touch):
            sql, ordered = _touch(self._dialect, change.extending)
            return raw.execute(sql, ordered(change.values)).fetchone()
        return _end(change, raw)


def _in_thread(
    connection: Any,
    work: Callable[[sqlite3.Connection], T],
    *,
    begin: str | None,
    committed: Callable[[sqlite3.Connection, T], None] | None = None,
) -> InThread[T]:
    """Run something in the connection's thread, in a transaction if one is to begin."""

    # A closure, since aiosqlite logs what it runs together with its arguments.
    def run() -> T:
        raw: sqlite3.Connection = connection._conn  # noqa: SLF001 (the connection that the thread serves)
        try:
            if begin is not None:
                raw.execute(begin)
            result = work(raw)
            if raw.in_transaction:
                raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
        if committed is not None:
            committed(raw, result)
        return result

    # The way into the thread; not the connection's own, which keeps arguments out of the log: here are none.
    running: InThread[T] = _execute(connection, run)
    return running


def _end(ending: Any, raw: sqlite3.Connection) -> bool:
    kept = isinstance(ending, KeptDelete)
    gone = raw.execute(_DELETE[kept], (ending.digest, ending.now)).fetchone()
    if gone is not None:
        tombstone = {
            "version": 0,
            "id": ending.digest,
            "seq": ending.tombstone,
            "data": b"".join(part.to_bytes(8, "big") for part in (machine_time(), gone[0], ending.now)),
        }
        sql, ordered = _WRITE_CHUNK
        raw.execute(sql, ordered(list(tombstone.values())))
        if kept and not is_reserved((record := Record(*gone)).subject):
            sql, ordered = _KEEP
            values = values_of(ending.digest, record, ending.reason, ending.now)
            raw.execute(sql, ordered([values[name] for name in ends.c.keys()]))  # noqa: SIM118 (in this order)
    return gone is not None


def _fetch(statement: Ordered, values: Sequence[Any], raw: sqlite3.Connection) -> list[Row]:
    sql, ordered = statement
    return raw.execute(sql, ordered(values)).fetchall()


@cache
def _rewrite(dialect: Dialect, over: bool) -> Ordered:
    return _sql(rewrite(dialect, conditional=over), [*c.keys(), "if_match"])


@cache
def _upsert(dialect: Dialect, given: ExplicitOptions, absent: bool) -> Ordered:
    return _sql(upsert(dialect, given, absent=absent), [*c.keys()])


@cache
def _conditional(dialect: Dialect, given: ExplicitOptions) -> Ordered:
    statement = rewriting(dialect, given, matching=True).returning(c.id, *RECORD)
    return _sql(statement, [*c.keys(), "if_match"])


@cache
def _touch(dialect: Dialect, extending: Extending) -> Ordered:
    return _sql(touch(dialect, extending).returning(c.id, *RECORD), [*TOUCHING])


def _sql(statement: Any, names: Sequence[str]) -> Ordered:
    """A statement as sqlite3 takes it, and what puts the named values into the order of its parameters."""
    compiled = statement.compile(dialect=dialect())
    places = [names.index(name.removeprefix("p_")) for name in compiled.positiontup]
    return str(compiled), itemgetter(*places)


_SELECT = {
    part: _sql(select(*columns).where(c.id == parameter("id")), ["id"])[0] for part, columns in PARTS.items()
}
_READ_CHUNKS = _sql(READ_CHUNKS, Chunks.names)
_WRITE_CHUNK = _sql(WRITE_CHUNK, Chunk.names)
_DELETE = {
    kept: _sql(
        delete(sessions)
        .where(c.id == parameter("id"), INLINE, live_at(bindparam("p_now", type_=c.updated_at.type)))
        .returning(*(RECORD if kept else RECORD[:1])),
        ["id", "now"],
    )[0]
    for kept in (False, True)
}
_KEEP = _sql(insert(ends).values({name: bindparam(f"p_{name}") for name in ends.c.keys()}), [*ends.c.keys()])  # noqa: SIM118 (no dictionary)
