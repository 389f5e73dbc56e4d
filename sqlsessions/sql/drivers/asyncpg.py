"""asyncpg without SQLAlchemy in between: one statement for a batch, its values in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    String,
    any_,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import Delete, Operation, Read, Row, Touch, Write, grouped, matched
from ..engine.database import Database
from ..models import TOMBSTONE, chunks, sessions
from ..statements.single import (
    INLINE,
    READ_CHUNKS,
    RECORD,
    WRITE_CHUNK,
    ExplicitOptions,
    live_at,
    over,
    renewed,
)

c = sessions.c

TOUCHED = {"id": c.id, "version": c.version, "seen": c.expires_at, "ttl": c.ttl, "expires_at": c.expires_at}


class AsyncpgDriver(Driver[Any]):
    """BatchExecutor over asyncpg's own connections, taken from SQLAlchemy's pool."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._upsert = cache(self._upsert_statement)
        self._conditional = cache(self._conditional_statement)

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.driver_connection(writes=writes)

    async def read(self, connection: Any, reads: Sequence[Read]) -> list[Row | None]:
        if len(reads) == 1:
            return [await connection.fetchrow(_SELECT_ONE[reads[0].data], reads[0].digest)]
        with_data = any(read.data for read in reads)
        rows = await connection.fetch(_SELECT[with_data], list({read.digest for read in reads}))
        return matched(reads, rows)

    async def write(self, connection: Any, changes: Sequence[Operation]) -> list[Any]:
        groups = grouped(changes)
        results: dict[bytes, Any] = {}
        in_transaction = len(groups) > 1 and not connection.is_in_transaction()  # as behind a pooler
        if in_transaction:
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            for kind, members in groups:
                for row in await self._change(connection, kind, members):
                    results[row[0]] = row
            if in_transaction:
                await connection.execute("COMMIT")
        except BaseException:
            if in_transaction and not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        return [
            results.get(change.digest) if isinstance(change, Write) else change.digest in results
            for change in changes
        ]

    async def read_chunks(self, connection: Any, wanted: Chunks) -> Sequence[Row]:
        return await connection.fetch(_READ_CHUNKS, *wanted.values)  # type: ignore[no-any-return]

    async def write_chunk(self, connection: Any, chunk: Chunk) -> None:
        await connection.fetch(_WRITE_CHUNK, *chunk.values)

    async def _change(self, connection: Any, kind: Any, members: list[Any]) -> list[Any]:
        if kind is Delete:
            ended = zip(*((change.digest, change.version, change.now) for change in members), strict=True)
            return await connection.fetch(_DELETE, *ended)  # type: ignore[no-any-return]
        if kind is Touch:
            return await connection.fetch(_TOUCH, *zip(*(change.values for change in members), strict=True))  # type: ignore[no-any-return]
        _, given, if_match = kind
        columns = list(zip(*(change.row for change in members), strict=True))
        if if_match:
            versions = [change.if_match for change in members]
            return await connection.fetch(self._conditional(given), *columns, versions)  # type: ignore[no-any-return]
        return await connection.fetch(self._upsert(given, if_match is False), *columns)  # type: ignore[no-any-return]

    def _upsert_statement(self, given: ExplicitOptions, absent: bool) -> str:
        new = _arrays({column.name: column for column in c})
        insert = self._dialect.insert(sessions).from_select([column.name for column in c], select(*new.c))
        return _sql(over(self._dialect, insert, given, absent=absent), list(new.c.keys()))

    def _conditional_statement(self, given: ExplicitOptions) -> str:
        new = _arrays({column.name: column for column in c} | {"if_match": c.version})
        names = list(new.c.keys())
        statement = (
            update(sessions)
            .where(c.id == new.c.id, c.version == new.c.if_match, live_at(new.c.updated_at), INLINE)
            .values(dict(renewed(self._dialect, given, lambda name: new.c[name])))
            .returning(c.id, *RECORD)
        )
        return _sql(statement, names)


def _arrays(columns: dict[str, Column[Any]]) -> Any:
    """A table whose columns are given as one array each."""
    arrays = (bindparam(f"p_{name}", type_=ARRAY(_plain(col.type))) for name, col in columns.items())
    typed = (column(name, col.type) for name, col in columns.items())
    return func.unnest(*arrays).table_valued(*typed, name="new").render_derived()


def _plain(type_: Any) -> Any:
    """A type without a collation, which an array has no use for."""
    return String() if isinstance(type_, String) else type_


def _sql(statement: Any, names: Sequence[str] = ("id",)) -> str:
    """A statement as asyncpg takes it, its parameters numbered in the order of the names."""
    compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
    assert compiled.positiontup == [f"p_{name}" for name in names], compiled.positiontup
    return str(compiled)


def _select(*, data: bool, many: bool) -> str:
    ids = bindparam("p_id", type_=ARRAY(c.id.type) if many else c.id.type)
    columns = (c.id, *RECORD, c.data) if data else (c.id, *RECORD)
    return _sql(select(*columns).where(c.id == (any_(ids) if many else ids)))


def _touch() -> str:
    new = _arrays(TOUCHED)
    statement = (
        update(sessions)
        .where(c.id == new.c.id, c.version == new.c.version, c.expires_at.is_not_distinct_from(new.c.seen))
        .values(ttl=new.c.ttl, expires_at=new.c.expires_at)
        .returning(c.id)
    )
    return _sql(statement, list(TOUCHED))


def _delete() -> str:
    ending = _arrays({"id": c.id, "version": c.version, "now": c.updated_at})
    gone = (
        delete(sessions)
        .where(c.id == ending.c.id, INLINE, live_at(ending.c.now))
        .returning(c.id, c.version, ending.c.version.label("tombstone"))
        .cte("gone")
    )
    tombstone = select(
        gone.c.tombstone, gone.c.id, literal_column(str(TOMBSTONE)), func.int8send(gone.c.version)
    )
    statement = insert(chunks).from_select(["version", "id", "seq", "data"], tombstone).returning(chunks.c.id)
    return _sql(statement, ["id", "version", "now"])


_SELECT_ONE = {data: _select(data=data, many=False) for data in (False, True)}
_SELECT = {data: _select(data=data, many=True) for data in (False, True)}
_TOUCH = _touch()
_READ_CHUNKS = _sql(READ_CHUNKS, Chunks.names)
_WRITE_CHUNK = _sql(WRITE_CHUNK, Chunk.names)
_DELETE = _delete()
