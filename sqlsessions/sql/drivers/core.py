"""Any driver, through SQLAlchemy Core: many sessions in one statement where that is possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import Delete, Operation, Read, Row, Touch, grouped, matched, without_missing
from ..models import sessions
from ..statements.single import (
    INLINE,
    PARTS,
    READ_CHUNKS,
    TOUCH,
    WRITE_CHUNK,
    conditional,
    live_at,
    parameters,
    part_of,
    upsert,
)
from ..statements.transactions import end, locked

c = sessions.c


class CoreDriver(Driver[AsyncConnection]):
    """BatchExecutor over SQLAlchemy's connections."""

    conditional = False  # as UPDATE has no RETURNING on MariaDB and MySQL

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._database.connection(writes=writes)

    async def read(self, connection: AsyncConnection, reads: Sequence[Read]) -> list[Row | None]:
        columns = PARTS[part_of(read.part for read in reads)]
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
        groups = grouped(changes)
        statement: Any = TOUCH
        if len(groups) == 1 and not self._database.engines.settings.durable_touches:
            statement = self._dialect.not_durable(TOUCH)
        if len(groups) > 1:  # all that locks several rows does so in the order of their ids
            rows = await locked(connection, c.id.in_([change.digest for change in changes]))
            groups = grouped(without_missing(changes, {row.id for row in rows}))
        for kind, members in groups:
            if kind is Touch:
                for touch in members:
                    result = await connection.execute(statement, touch.parameters)
                    written[touch.digest] = result.rowcount > 0
            elif kind is Delete:
                for ending in members:
                    rows = await locked(connection, c.id == ending.digest, INLINE, live_at(ending.now))
                    await end(connection, self._dialect, rows, ending.tombstone, ending.now)
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
        rows = []
        for some in self._statements(members):
            values = [parameters(write.row) for write in some]
            rows += (await connection.execute(statement, values if len(values) > 1 else values[0])).all()
        return rows

    def _statements(self, writes: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Writes, shared out to as many statements as the database takes them in."""
        most = self._dialect.statement_bytes
        if most is None or len(writes) == 1 or sum(write.size for write in writes) <= most:
            yield writes
            return
        some: list[Any] = []
        held = 0
        for write in writes:
            if some and held + write.size > most:
                yield some
                some, held = [], 0
            some.append(write)
            held += write.size
        yield some


def _named(values: Chunk | Chunks) -> dict[str, Any]:
    return {f"p_{name}": value for name, value in zip(values.names, values.values, strict=True)}
