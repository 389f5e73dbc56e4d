"""The purge lease: a row in the database that its holder keeps changing.

A row and not an advisory lock, since it needs no connection of its own for the length of a purge,
survives a pooler that hands transactions to any connection, and works on clusters that have no such
locks. No clock decides: a process that finds the row watches whether it changes, and takes it over if not.
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
from .models import PURGE_LEASE, chunks

HEARTBEAT = 2.0  # seconds
DEAD_AFTER = 10.0  # seconds without a heartbeat
POLL = 0.5  # seconds

# In the table of chunks, where no session can have it: versions are positive.
_KEY = {"version": 0, "id": bytes(32), "seq": PURGE_LEASE}
_ROW = and_(*(chunks.c[name] == value for name, value in _KEY.items()))


class DatabaseLease:
    """The right to purge a database, held between `acquire` and `release` for as long as `renew` says so.

    Args:
        database: The database that holds the row.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._token: bytes | None = None
        self._renewed_at = 0.0

    async def acquire(self) -> bool:
        """Acquire the lease; False if a process that is alive holds it."""
        if await self._change(None, _new_token()):
            return True
        seen, since = await self._database.run(_holder), time.monotonic()
        while time.monotonic() - since < DEAD_AFTER:
            await asyncio.sleep(POLL)
            current = await self._database.run(_holder)
            if current is None:
                return await self._change(None, _new_token())
            if current != seen:
                return False
        return await self._change(seen, _new_token())

    async def renew(self) -> bool:
        """Change the row, at most every 2 seconds; False if another process has acquired the lease."""
        if time.monotonic() - self._renewed_at < HEARTBEAT:
            return True
        return await self._change(self._token, _new_token())

    async def release(self) -> None:
        """Delete the row. If that fails, the lease passes on as from a dead process."""
        with suppress(SessionError):
            await self._change(self._token, None)

    async def _change(self, old: bytes | None, new: bytes | None) -> bool:
        work, resolve = partial(_swap, old=old, new=new), partial(_resolve, new=new)
        if done := await self._database.transaction(work, resolve=resolve):
            self._token, self._renewed_at = new, time.monotonic()
        return done


@asynccontextmanager
async def purge_lease(database: Database) -> AsyncIterator[DatabaseLease | None]:
    """Hold the purge lease; None if another process holds it."""
    lease = DatabaseLease(database)
    if not await lease.acquire():
        yield None
        return
    try:
        yield lease
    finally:
        await lease.release()


async def is_purging(database: Database) -> bool:
    """Whether a process holds the purge lease, or died while it did."""
    return await database.run(_holder) is not None


def _new_token() -> bytes:
    return secrets.token_bytes(16)


async def _holder(connection: AsyncConnection) -> bytes | None:
    token: bytes | None = (await connection.execute(select(chunks.c.data).where(_ROW))).scalar()
    return token


async def _resolve(connection: AsyncConnection, new: bytes | None) -> bool | None:
    return await _holder(connection) == new or None


async def _swap(connection: AsyncConnection, old: bytes | None, new: bytes | None) -> bool:
    """Change the row from one token to another, None being no row; False if it had not the first."""
    found = (await connection.execute(select(chunks.c.data).where(_ROW).with_for_update())).scalar()
    if found != old:
        return False
    if new is None:
        await connection.execute(delete(chunks).where(_ROW))
    elif old is None:
        await connection.execute(insert(chunks).values(**_KEY, data=new))
    else:
        await connection.execute(update(chunks).where(_ROW).values(data=new))
    return True
