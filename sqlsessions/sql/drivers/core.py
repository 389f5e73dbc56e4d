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
    ABSENT,
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
    RECORD,
    TOUCHING,
    WRITE_CHUNK,
    ExplicitOptions,
    parameters,
    part_of,
    rewriting,
    touch,
    upsert,
)
from .locked import change_locked

c = sessions.c


class CoreDriver(Driver[AsyncConnection]):
    """BatchExecutor over SQLAlchemy's connections."""

    conditional = False  # since INSERT has no RETURNING on MySQL
    inline_reads = False  # whose connections may be the caller's

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
        """Whether changes go out as one statement, on a connection whose isolation level is ours; see `parted`."""
        return (
            connection.dialect.insert_returning
            and self._database.engines.owned
            and makes_row(changes[0])
            and len(grouped(changes)) == 1
            and self._fit_into_one(changes)
        )

    async def read_chunks(self, connection: AsyncConnection, wanted: Chunks) -> Sequence[Row]:
        return (await connection.execute(READ_CHUNKS, _named(wanted))).all()

    async def write_chunk(self, connection: AsyncConnection, chunk: Chunk) -> None:
        await connection.execute(WRITE_CHUNK, _named(chunk))

    async def _write(self, connection: AsyncConnection, changes: Sequence[Operation]) -> dict[bytes, Any]:
        kinds = grouped(changes)
        returning = connection.dialect.insert_returning
        # Else sessions that are likely not to be there are written in a transaction of their own.
        upserts = returning and (self._dialect.serial or len(kinds) == 1)
        written: dict[bytes, Any] = {}
        of_rows: list[Any] = []
        for kind, members in kinds:
            if upserts and makes_row(members[0]):
                _, given, if_match = kind
                for row in await self._upsert(connection, members, given, absent=if_match is False):
                    written[row[0]] = row
            else:
                of_rows += [change for change in members if not makes_row(change) or change.rewrites]
        if of_rows:
            durable = self._database.engines.settings.durable_touches
            if returning:
                written |= {change.digest: ABSENT for change in of_rows if makes_row(change)}
            written |= await change_locked(connection, self._dialect, of_rows, durable=durable)
        return written

    async def _write_one(self, connection: AsyncConnection, change: Operation) -> dict[bytes, Any]:
        if isinstance(change, Touch):
            durable = self._database.engines.settings.durable_touches
            statement = touch(self._dialect, change.extending)
            if not durable:
                statement = self._dialect.not_durable(statement)
            values = {f"p_{name}": value for name, value in zip(TOUCHING, change.values, strict=True)}
            if not connection.dialect.update_returning:
                await connection.execute(statement, values)
                return {}
            found = await connection.execute(statement.returning(c.id, *RECORD), values)
            return {row[0]: row for row in found.all()}
        assert isinstance(change, Write)
        if change.if_match:
            values = parameters(change.row) | {"p_if_match": change.if_match}
            found = await connection.execute(
                rewriting(self._dialect, change.given, matching=True).returning(c.id, *RECORD), values
            )
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
