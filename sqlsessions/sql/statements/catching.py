"""Locking sessions that get other ids meanwhile, on databases where they escape a statement that waits for them.

They are found without locks and locked by their primary keys, as every other transaction locks them: a statement that
locks what it finds by another index holds that index's entries while it waits for the rows, and whoever changes such a
row has them in the other order.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, LargeBinary, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..dialects import Dialect
from ..models import MOVED, chunks, sessions
from .transactions import Stored, locked

CHASES = 100
"""How often sessions that get other ids are looked for in one transaction."""

c, k = sessions.c, chunks.c


async def catch(
    connection: AsyncConnection,
    dialect: Dialect,
    *conditions: ColumnElement[bool],
    limit: int,
    latest: bool = False,
) -> tuple[list[Stored], bool]:
    """Lock sessions, also those that get other ids before they are locked.

    One that does is looked for at once: whoever changes it needs longer than that to lock it again.

    Args:
        connection: In a transaction.
        dialect: The database.
        conditions: Which sessions.
        limit: The most sessions.
        latest: Whether to see changes of ids that were committed after the transaction began, whatever its isolation.

    Returns:
        The sessions, and whether there may be more.
    """
    found = await connection.execute(select(c.id).where(*conditions).limit(limit))
    wanted = {bytes(id) for id in found.scalars()}
    more, caught = len(wanted) == limit, list[Stored]()
    for _ in range(CHASES):
        if not wanted:
            break
        rows = await locked(connection, c.id.in_(sorted(wanted)), *conditions, hint=dialect.key_hint)
        caught += rows
        if not (missing := wanted - {stored.id for stored in rows}):
            break
        more = True  # one whose change of id is forgotten already is found by the next look
        moved = select(func.substr(k.data, 9, type_=LargeBinary())).where(
            k.version == 0, k.id.in_(missing), k.seq == MOVED
        )
        here = select(c.id).where(c.id.in_(missing), *conditions)  # again, in the same snapshot
        now = moved.with_for_update(read=True) if latest else union_all(moved, here)
        wanted = {bytes(id) for id in (await connection.execute(now)).scalars()}
    return caught, more
