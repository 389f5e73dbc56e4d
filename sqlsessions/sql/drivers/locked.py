"""Changes of rows that are there, by one transaction that locks all of them first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Executable, delete, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..batching.operations import Delete, KeptDelete, Operation, Touch, Write
from ..dialects import Dialect
from ..models import sessions
from ..statements.chunks import ended_data, leave_different_tombstones
from ..statements.ends import insert_records, values_of
from ..statements.single import RECORD, TOUCH, parameter, parameters
from ..statements.transactions import Stored, locked

c = sessions.c

_WRITTEN = itemgetter(0, *([*c.keys()].index(column.name) for column in RECORD))
"""Gives ``id, *RECORD`` of a row of all columns."""

_UPDATE = (
    update(sessions).where(c.id == parameter("id")).values({name: parameter(name) for name in c.keys()[1:]})
)
_NEEDED = ("version", "size", "created_at", "updated_at")
"""Columns that no row is without."""

_TOUCHED = ("ttl", "expires_at", "touched_at")


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
        The results of those that did something, by digest; of writes that did not, the sessions as they are.
    """
    there = {
        stored.id: stored for stored in await locked(connection, c.id.in_([each.digest for each in changes]))
    }
    done = [change for change in changes if change.digest in there and _applies(change, there[change.digest])]
    writes = [change for change in done if isinstance(change, Write)]
    touches = [change for change in done if isinstance(change, Touch)]
    ends = [change for change in done if isinstance(change, Delete)]
    if writes:
        await _write(connection, dialect, writes)
    if touches:
        await _touch(connection, dialect, touches, there, durable=durable or len(touches) < len(changes))
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
    results = {each.digest: _WRITTEN(each.row) if isinstance(each, Write) else True for each in done}
    for each in changes:
        if isinstance(each, Write) and each.digest in there and each.digest not in results:
            results[each.digest] = (each.digest, *astuple(there[each.digest].record))
    return results


def _applies(change: Operation, stored: Stored) -> bool:
    """Whether a change does something to a session as it is; sets the values of a write or touch."""
    record = stored.record
    if isinstance(change, Touch):
        return change.begin_over(record)
    if isinstance(change, Write):
        return not stored.chunked and change.begin_over(record)
    return isinstance(change, Delete) and not stored.chunked and record.live(change.now)


async def _touch(
    connection: AsyncConnection,
    dialect: Dialect,
    touches: Sequence[Touch],
    there: Mapping[bytes, Stored],
    *,
    durable: bool,
) -> None:
    if (
        len(touches) > 1
        and (statement := _overwriting(dialect, _TOUCHED, (*_NEEDED, "id", *_TOUCHED))) is not None
    ):
        values = [
            {f"p_{name}": getattr(there[touch.digest].record, name) for name in _NEEDED} | touch.parameters
            for touch in touches
        ]
    else:
        statement = TOUCH if durable else dialect.not_durable(TOUCH)
        values = [touch.parameters for touch in touches]
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
