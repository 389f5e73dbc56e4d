"""Whose turn it is to purge: a row that the one who purges keeps changing.

A row and not an advisory lock, since it needs no connection of its own for the length of a purge,
survives a pooler that hands transactions to any connection, and works on clusters that have no such
locks. No clock takes part: who finds the row watches whether it changes, and takes it over if not.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import SessionError
from .engine.database import Database
from .models import chunks

HEARTBEAT = 2.0  # seconds
DEAD_AFTER = 10.0  # seconds without a heartbeat
POLL = 0.5  # seconds

# In the table of chunks, where no session can have it: versions are positive.
_ROW = {"version": 0, "id": bytes(32), "seq": -3}
_OURS = and_(*(chunks.c[name] == value for name, value in _ROW.items()))


class PurgeLease:
    """The right to purge, as long as `keep` is called now and then and says so.

    Args:
        database: Where the row is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._value: bytes | None = None
        self._changed = 0.0

    async def take(self) -> bool:
        """Take the turn; False if a process that is alive has it."""
        if await self._change(None, _new()):
            return True
        seen, since = await self._database.run(_look), time.monotonic()
        while time.monotonic() - since < DEAD_AFTER:
            await asyncio.sleep(POLL)
            current = await self._database.run(_look)
            if current is None:
                return await self._change(None, _new())
            if current != seen:
                return False
        return await self._change(seen, _new())

    async def keep(self) -> bool:
        """Say that we are alive; False if another process has taken over."""
        if time.monotonic() - self._changed < HEARTBEAT:
            return True
        return await self._change(self._value, _new())

    async def give_back(self) -> None:
        """Let others purge. If that fails, they notice by themselves."""
        with suppress(SessionError):
            await self._change(self._value, None)

    async def _change(self, old: bytes | None, new: bytes | None) -> bool:
        work, resolve = partial(_swap, old=old, new=new), partial(_settle, new=new)
        if done := await self._database.transaction(work, resolve=resolve):
            self._value, self._changed = new, time.monotonic()
        return done


@asynccontextmanager
async def purge_lease(database: Database) -> AsyncIterator[PurgeLease | None]:
    """The turn to purge; None if another process has it."""
    turn = PurgeLease(database)
    if not await turn.take():
        yield None
        return
    try:
        yield turn
    finally:
        await turn.give_back()


def _new() -> bytes:
    return secrets.token_bytes(16)


async def _look(connection: AsyncConnection) -> bytes | None:
    value: bytes | None = (await connection.execute(select(chunks.c.data).where(_OURS))).scalar()
    return value


async def _settle(connection: AsyncConnection, new: bytes | None) -> bool | None:
    return await _look(connection) == new or None


async def _swap(connection: AsyncConnection, old: bytes | None, new: bytes | None) -> bool:
    """Change the row from one value to another, None being no row; whether it had the first."""
    found = (await connection.execute(select(chunks.c.data).where(_OURS).with_for_update())).scalar()
    if found != old:
        return False
    if new is None:
        await connection.execute(delete(chunks).where(_OURS))
    elif old is None:
        await connection.execute(insert(chunks).values(**_ROW, data=new))
    else:
        await connection.execute(update(chunks).where(_OURS).values(data=new))
    return True
