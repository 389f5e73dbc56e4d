"""Any driver, through SQLAlchemy Core: many sessions in one statement where that is possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import (
    Delete,
    Operation,
    Read,
    Row,
    Touch,
    Write,
    grouped,
    makes_row,
    matched,
)
from ..models import sessions
from ..statements.single import (
    PARTS,
    READ_CHUNKS,
    TOUCH,
    WRITE_CHUNK,
    ExplicitOptions,
    conditional,
    parameters,
    part_of,
    upsert,
)
from .locked import change_locked

c = sessions.c


class CoreDriver(Driver[AsyncConnection]):
    """BatchExecutor over SQLAlchemy's connections."""

    conditional = False  # since INSERT has no RETURNING on MySQL

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        return self._database.connection(writes=writes)

    async def read(self, connection: AsyncConnection, reads: Sequence[Read]) -> list[Row | None]:
        columns = PARTS[part_of(read.part for read in reads)]
        wanted = select(*columns).where(c.id.in_({read.digest for read in reads}))
        return matched(reads, (await connection.execute(wanted)).all())

    async def write(self, connection: AsyncConnection, changes: Sequence[Operation]) -> list[Any]:
        if len(changes) == 1 and self._is_one_statement(connection, changes[0]):
            written = await self._write_one(connection, changes[0])
        elif self._is_one_upsert(connection, changes):
            written = await self._write(connection, changes)  # which commits by itself
        else:
            written = await self._database.in_transaction(connection, partial(self._write, changes=changes))
        return [written.get(change.digest) for change in changes]

    def _is_one_statement(self, connection: AsyncConnection, change: Operation) -> bool:
        if isinstance(change, Write) and change.if_match:
            return connection.dialect.update_returning
        if isinstance(change, Write) and change.rewrites:
            return connection.dialect.insert_returning
        return not isinstance(change, Delete)

    def _is_one_upsert(self, connection: AsyncConnection, changes: Sequence[Operation]) -> bool:
        """Whether changes go out as one statement, on a connection whose isolation level is ours.

        Those that make sessions are all of one kind: see `parted`.
        """
        return (
            connection.dialect.insert_returning
            and self._database.engines.owned
            and makes_row(changes[0])
            and self._fit_into_one(changes)
        )

    async def read_chunks(self, connection: AsyncConnection, wanted: Chunks) -> Sequence[Row]:
        return (await connection.execute(READ_CHUNKS, _named(wanted))).all()

    async def write_chunk(self, connection: AsyncConnection, chunk: Chunk) -> None:
        await connection.execute(WRITE_CHUNK, _named(chunk))

    async def _write(self, connection: AsyncConnection, changes: Sequence[Operation]) -> dict[bytes, Any]:
        written: dict[bytes, Any] = {}
        of_rows: list[Operation] = []
        for kind, members in grouped(changes):
            if not makes_row(members[0]):
                of_rows += members
            elif connection.dialect.insert_returning:
                _, given, if_match = kind
                for row in await self._upsert(connection, members, given, absent=if_match is False):
                    written[row[0]] = row
            else:  # those of sessions that are likely to be there
                of_rows += [write for write in members if write.rewrites]
        if of_rows:
            durable = self._database.engines.settings.durable_touches
            written |= await change_locked(connection, self._dialect, of_rows, durable=durable)
        return written

    async def _write_one(self, connection: AsyncConnection, change: Operation) -> dict[bytes, Any]:
        if isinstance(change, Touch):
            durable = self._database.engines.settings.durable_touches
            statement = TOUCH if durable else self._dialect.not_durable(TOUCH)
            result = await connection.execute(statement, change.parameters)
            return {change.digest: result.rowcount > 0}
        assert isinstance(change, Write)
        if change.if_match:
            values = parameters(change.row) | {"p_if_match": change.if_match}
            found = await connection.execute(conditional(self._dialect, change.given), values)
            rows: Sequence[Any] = found.all()
        elif connection.dialect.insert_returning:
            rows = await self._upsert(connection, [change], change.given, absent=change.if_match == 0)
        else:
            rows = []
        return {row[0]: row for row in rows}

    async def _upsert(
        self, connection: AsyncConnection, members: Sequence[Any], given: ExplicitOptions, *, absent: bool
    ) -> list[Any]:
        statement = upsert(self._dialect, given, absent=absent)
        rows: list[Any] = []
        for some in self._statements(members):
            values = [parameters(write.row) for write in some]
            rows += (await connection.execute(statement, values if len(values) > 1 else values[0])).all()
        return rows

    def _statements(self, writes: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """Writes, shared out to as many statements as the database takes them in."""
        if self._fit_into_one(writes):
            yield writes
            return
        most = self._dialect.statement_bytes or 0
        some: list[Any] = []
        held = 0
        for write in writes:
            if some and held + write.size > most:
                yield some
                some, held = [], 0
            some.append(write)
            held += write.size
        yield some

    def _fit_into_one(self, writes: Sequence[Any]) -> bool:
        most = self._dialect.statement_bytes
        return most is None or len(writes) == 1 or sum(write.size for write in writes) <= most


def _named(values: Chunk | Chunks) -> dict[str, Any]:
    return {f"p_{name}": value for name, value in zip(values.names, values.values, strict=True)}
