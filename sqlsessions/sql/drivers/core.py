"""Any driver, through SQLAlchemy Core: many sessions in one statement where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import Delete, Operation, Read, Row, Touch, grouped, matched
from ..models import sessions
from ..statements.single import (
    INLINE,
    READ_CHUNKS,
    RECORD,
    TOUCH,
    WRITE_CHUNK,
    conditional,
    live_at,
    parameters,
    upsert,
)
from ..statements.transactions import end, locked

c = sessions.c


class CoreDriver(Driver[AsyncConnection]):
    """BatchExecutor over SQLAlchemy's connections."""

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._database.connection(writes=writes)

    async def read(self, connection: AsyncConnection, reads: Sequence[Read]) -> list[Row | None]:
        columns = (c.id, *RECORD, c.data) if any(read.data for read in reads) else (c.id, *RECORD)
        wanted = select(*columns).where(c.id.in_({read.digest for read in reads}))
        return matched(reads, (await connection.execute(wanted)).all())

    async def write(self, connection: AsyncConnection, changes: Sequence[Operation]) -> list[Any]:
        if len(changes) == 1 and not isinstance(changes[0], Delete):
            written = await self._write(connection, changes=changes)
        else:
            written = await self._database.in_transaction(connection, partial(self._write, changes=changes))
        return [written.get(change.digest) for change in changes]

    async def read_chunks(self, connection: AsyncConnection, wanted: Chunks) -> Sequence[Row]:
        return (await connection.execute(READ_CHUNKS, _named(wanted))).all()

    async def write_chunk(self, connection: AsyncConnection, chunk: Chunk) -> None:
        await connection.execute(WRITE_CHUNK, _named(chunk))

    async def _write(self, connection: AsyncConnection, changes: Sequence[Operation]) -> dict[bytes, Any]:
        written: dict[bytes, Any] = {}
        for kind, members in grouped(changes):
            if kind is Touch:
                for touch in members:
                    result = await connection.execute(TOUCH, touch.parameters)
                    written[touch.digest] = result.rowcount > 0
            elif kind is Delete:
                for ending in members:
                    rows = await locked(connection, c.id == ending.digest, INLINE, live_at(ending.now))
                    await end(connection, rows, ending.now, ending.version)
                    written[ending.digest] = bool(rows)
            else:
                for row in await self._write_kind(connection, members, *kind[1:]):
                    written[row[0]] = row
        return written

    async def _write_kind(
        self, connection: AsyncConnection, members: Sequence[Any], given: Any, if_match: bool | None
    ) -> list[Any]:
        if if_match and connection.dialect.update_returning:
            statement = conditional(self._dialect, given)
            rows: list[Any] = []
            for write in members:
                one = parameters(write.row) | {"p_if_match": write.if_match}
                rows += (await connection.execute(statement, one)).all()
            return rows
        if if_match or not connection.dialect.insert_returning:
            return []
        statement = upsert(self._dialect, given, absent=if_match is False)
        values = [parameters(write.row) for write in members]
        return list((await connection.execute(statement, values if len(values) > 1 else values[0])).all())


def _named(values: Chunk | Chunks) -> dict[str, Any]:
    return {f"p_{name}": value for name, value in zip(values.names, values.values, strict=True)}
