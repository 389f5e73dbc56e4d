"""Changes of rows that are there, by one transaction that locks all of them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Executable, delete, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...records import Record
from ..batching.operations import Delete, KeptDelete, Operation, Touch, Write
from ..dialects import Dialect
from ..models import sessions
from ..statements.chunks import ended_data, leave_different_tombstones
from ..statements.ends import insert_records, values_of
from ..statements.single import RECORD, parameter, parameters
from ..statements.transactions import locked

c = sessions.c

_WRITTEN = itemgetter(0, *([*c.keys()].index(column.name) for column in RECORD))
"""Gives ``id, *RECORD`` of a row of all columns."""

_UPDATE = (
    update(sessions).where(c.id == parameter("id")).values({name: parameter(name) for name in c.keys()[1:]})
)
_NEEDED = ("id", "version", "size", "created_at", "updated_at")
"""Columns that no row is without."""

_TOUCHED = ("ttl", "expires_at", "touched_at")

_TOUCH = update(sessions).where(c.id == parameter("id")).values({name: parameter(name) for name in _TOUCHED})


async def change_locked(
    connection: AsyncConnection, dialect: Dialect, changes: Sequence[Operation], *, durable: bool
) -> dict[bytes, Any]:
    """Make changes of sessions that are there: touches, ends and writes, each of another session.

    Two such transactions cannot deadlock: they lock in the order of the ids, and all that they will need.

    Args:
        connection: In a transaction.
        dialect: The database.
        changes: Begun; see `Operation.begin`.
        durable: Whether touches alone must be on the disk, too.

    Returns:
        The results of those that did something, by digest; of other writes, the sessions as they are, if they are there.
    """
    there = {
        stored.id: stored for stored in await locked(connection, c.id.in_([each.digest for each in changes]))
    }
    found = [(change, there[change.digest]) for change in changes if change.digest in there]
    writes = [
        change
        for change, stored in found
        if isinstance(change, Write) and not stored.chunked and change.begin_over(stored.record)
    ]
    touched = {
        change.digest: record
        for change, stored in found
        if isinstance(change, Touch) and (record := _touched(change, stored.record)) is not None
    }
    ends = [
        change
        for change, stored in found
        if isinstance(change, Delete) and not stored.chunked and stored.record.live(change.now)
    ]
    if writes:
        await _write(connection, dialect, writes)
    if touched:
        await _touch(connection, dialect, touched, durable=durable or len(touched) < len(changes))
    if ends:
        await connection.execute(delete(sessions).where(c.id.in_([each.digest for each in ends])))
        tombstones = [
            (each.tombstone, each.digest, ended_data(there[each.digest].record.version, each.now))
            for each in ends
        ]
        await leave_different_tombstones(connection, dialect, tombstones)
        await insert_records(
            connection,
            [
                values_of(each.digest, there[each.digest].record, each.reason, each.now)
                for each in ends
                if isinstance(each, KeptDelete)
            ],
        )
    results: dict[bytes, Any] = {
        change.digest: (change.digest, *astuple(stored.record))
        for change, stored in found
        if isinstance(change, Write)
    }
    results |= {write.digest: _WRITTEN(write.row) for write in writes}
    results |= {digest: (digest, *astuple(record)) for digest, record in touched.items()}
    return results | {end.digest: True for end in ends}


def _touched(touch: Touch, record: Record) -> Record | None:
    """What a touch makes of a session; None if it changes nothing."""
    touched = record.touched(touch.now, touch.ttl, touch.every) if record.live(touch.now) else record
    return None if touched is record else touched


async def _touch(
    connection: AsyncConnection, dialect: Dialect, touched: Mapping[bytes, Record], *, durable: bool
) -> None:
    names: tuple[str, ...] = (*_NEEDED, *_TOUCHED)
    if len(touched) == 1 or (statement := _overwriting(dialect, _TOUCHED, names)) is None:
        names = ("id", *_TOUCHED)
        statement = _TOUCH if durable else dialect.not_durable(_TOUCH)
    values = [
        {f"p_{name}": digest if name == "id" else getattr(record, name) for name in names}
        for digest, record in touched.items()
    ]
    await connection.execute(statement, values)


async def _write(connection: AsyncConnection, dialect: Dialect, writes: Sequence[Write]) -> None:
    names = (*c.keys(),)
    if len(writes) == 1 or (statement := _overwriting(dialect, names[1:], names)) is None:
        statement = _UPDATE
    await connection.execute(statement, [parameters(write.row) for write in writes])


@lru_cache
def _overwriting(dialect: Dialect, changed: tuple[str, ...], given: tuple[str, ...]) -> Executable | None:
    insert = dialect.insert(sessions).values({name: parameter(name) for name in given})
    return dialect.overwriting(insert, changed)
