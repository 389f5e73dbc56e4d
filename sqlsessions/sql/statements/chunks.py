"""Sets of chunks: counting, reserving, marking as superseded; the rows that ended and moved sessions leave."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..dialects import HOUR
from ..models import MOVED, SUPERSEDED, TOMBSTONE, chunks, sessions

RESERVED = 24 * HOUR  # microseconds

c = chunks.c


async def count(connection: AsyncConnection, version: int, digest: bytes) -> int:
    """How many chunks of a version are there."""
    found = await connection.execute(
        select(func.count()).select_from(chunks).where(c.version == version, c.id == digest, c.seq >= 0)
    )
    return found.scalar_one()


async def mark(connection: AsyncConnection, sets: list[tuple[int, bytes]], now: int) -> None:
    """Mark sets of chunks, each a version and an id, as superseded."""
    if sets:
        for version, digest in sets:  # a write that was tried again may have been superseded before
            await connection.execute(
                delete(chunks).where(c.version == version, c.id == digest, c.seq == SUPERSEDED)
            )
        time = now.to_bytes(8, "big")
        rows = [
            {"version": version, "id": digest, "seq": SUPERSEDED, "data": time} for version, digest in sets
        ]
        await connection.execute(insert(chunks), rows)


async def reserve(connection: AsyncConnection, version: int, digest: bytes, now: int) -> None:
    """Keep a purge from a set that is staged under a version from long ago: for a day it is not old.

    What is there of the set is deleted, unless a session points at it by now. `release` it in the transaction
    that points at it.
    """
    pointed_at = exists().where(sessions.c.id == digest, sessions.c.version == version)
    await connection.execute(delete(chunks).where(c.version == version, c.id == digest, not_(pointed_at)))
    await mark(connection, [(version, digest)], now + RESERVED)


async def release(connection: AsyncConnection, version: int, digest: bytes) -> None:
    """Take a mark away from a set that a session is about to point at."""
    await connection.execute(delete(chunks).where(c.version == version, c.id == digest, c.seq == SUPERSEDED))


async def leave_tombstones(connection: AsyncConnection, version: int, ended: list[tuple[bytes, int]]) -> None:
    """Leave tombstones of sessions, each an id and a version, that ended or moved; see `TOMBSTONE`."""
    if ended:
        rows = [
            {"version": version, "id": digest, "seq": TOMBSTONE, "data": gone.to_bytes(8, "big")}
            for digest, gone in ended
        ]
        await connection.execute(insert(chunks), rows)


async def leave_forwarding(connection: AsyncConnection, digest: bytes, new_digest: bytes, now: int) -> None:
    """Leave a note of where a session went; see `MOVED`."""
    # Of an earlier move from there; and one from the new id, or two moves there and back would lead in a circle.
    await connection.execute(delete(chunks).where(_moved(digest, new_digest)))
    data = now.to_bytes(8, "big") + new_digest
    await connection.execute(insert(chunks).values(version=0, id=digest, seq=MOVED, data=data))


async def find_forwarding(connection: AsyncConnection, digest: bytes) -> tuple[int, bytes] | None:
    """When a session was moved, and to which digest; None if it was not moved lately."""
    data: bytes | None = (await connection.execute(select(c.data).where(_moved(digest)))).scalar()
    return None if data is None else (int.from_bytes(data[:8], "big"), data[8:])


def _moved(*digests: bytes) -> ColumnElement[bool]:
    return and_(c.version == 0, c.id.in_(digests), c.seq == MOVED)
