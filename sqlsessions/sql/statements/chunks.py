"""Sets of chunks: counting, reserving, marking as superseded; the rows that ended and moved sessions leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import randbelow

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ...info import Rebinding
from ..dialects import HOUR, Dialect
from ..models import MOVED, SUPERSEDED, TOMBSTONE, chunks, sessions

RESERVED = 24 * HOUR  # microseconds


MAX_MOVES = 16
"""How many changes of an id are followed."""

c = chunks.c


async def count(connection: AsyncConnection, version: int, digest: bytes) -> int:
    """How many chunks of a version are there."""
    found = await connection.execute(
        select(func.count()).select_from(chunks).where(c.version == version, c.id == digest, c.seq >= 0)
    )
    return found.scalar_one()


async def mark(
    connection: AsyncConnection, dialect: Dialect, version: int, digest: bytes, *, later: int = 0
) -> None:
    """Mark a set of chunks as superseded, now or later."""
    await release(connection, version, digest)
    time = dialect.stamp(later=later)
    await connection.execute(insert(chunks).values(version=version, id=digest, seq=SUPERSEDED, data=time))


async def rename(connection: AsyncConnection, version: int, digest: bytes, new_version: int) -> None:
    """Give a set of chunks, which no session points at, another version."""
    one_set = (c.version == version, c.id == digest, c.seq >= 0)
    await connection.execute(update(chunks).where(*one_set).values(version=new_version))


async def reserve(connection: AsyncConnection, dialect: Dialect, version: int, digest: bytes) -> None:
    """Keep a purge from a set that is staged where chunks may have been before: for a day it is not old.

    What is there of the set is deleted, unless a session points at it by now. `release` it in the transaction
    that points at it.
    """
    pointed_at = exists().where(sessions.c.id == digest, sessions.c.version == version)
    await connection.execute(delete(chunks).where(c.version == version, c.id == digest, not_(pointed_at)))
    await mark(connection, dialect, version, digest, later=RESERVED)


async def release(connection: AsyncConnection, version: int, digest: bytes) -> None:
    """Take a mark away from a set that a session is about to point at."""
    await connection.execute(delete(chunks).where(c.version == version, c.id == digest, c.seq == SUPERSEDED))


async def rebind(
    connection: AsyncConnection, version: int, digest: bytes, to: bytes, rebinding: Rebinding
) -> bool:
    """Rebind a set of chunks, read from one digest and written to another; whether its data changed."""
    first: list[bytes] = []
    while sum(map(len, first)) < rebinding.size:
        wanted = select(c.data).where(c.version == version, c.id == digest, c.seq == len(first))
        if (data := (await connection.execute(wanted)).scalar()) is None:
            break
        first.append(bytes(data))
    joined = b"".join(first)
    if (rebound := rebinding.data(joined)) is joined:
        return False
    start = 0
    for seq, old in enumerate(first):
        piece, start = rebound[start : start + len(old)], start + len(old)
        of_piece = and_(c.version == version, c.id == to, c.seq == seq)
        await connection.execute(update(chunks).where(of_piece).values(data=piece))
    return True


def row_of(key: Mapping[str, object]) -> ColumnElement[bool]:
    """Whether a row is that of a special row's key."""
    return and_(*(c[name] == value for name, value in key.items()))


def new_tombstone() -> int:
    """A random ``seq`` for a tombstone."""
    return TOMBSTONE - randbelow(-TOMBSTONE)  # which no other process repeats


async def find_forwardings(
    connection: AsyncConnection, digests: Sequence[bytes]
) -> dict[bytes, tuple[int, bytes]]:
    """`find_forwarding` of some sessions."""
    found = await connection.execute(select(c.id, c.data).where(_moved(*digests)))
    return {bytes(id): (int.from_bytes(data[:8], "big"), data[8:]) for id, data in found}


async def leave_tombstones(
    connection: AsyncConnection,
    dialect: Dialect,
    tombstone: int,
    gone: list[tuple[bytes, int]],
    *,
    ended: int | None = None,
) -> None:
    """Leave tombstones of sessions, each an id and a version, that ended or moved; see `TOMBSTONE`.

    Args:
        connection: In a transaction.
        dialect: Of the database.
        tombstone: Their ``seq``.
        gone: The sessions.
        ended: When they were ended; None if they were not.
    """
    rows = [(tombstone, digest, ended_data(version, ended)) for digest, version in gone]
    await leave_different_tombstones(connection, dialect, rows)


def ended_data(version: int, ended: int | None) -> bytes:
    """What a tombstone's data has after the time of the database: the version that ended, and when it was ended."""
    return version.to_bytes(8, "big") + (b"" if ended is None else ended.to_bytes(8, "big"))


async def leave_different_tombstones(
    connection: AsyncConnection, dialect: Dialect, rows: Sequence[tuple[int, bytes, bytes]]
) -> None:
    """Leave tombstones, each with a ``seq`` of its own: that, the id, and the data after the time."""
    if len(rows) == 1:
        [(seq, digest, data)] = rows
        one = insert(chunks).values(version=0, seq=seq, id=digest, data=dialect.stamp(data))
        await connection.execute(one)
    elif rows:
        # The database's time once for all: SQLAlchemy would compile an expression in each row of hundreds anew.
        stamp = bytes((await connection.execute(select(dialect.stamp()))).scalar_one())
        values = [
            {"version": 0, "seq": seq, "id": digest, "data": stamp + data} for seq, digest, data in rows
        ]
        await connection.execute(insert(chunks), values)


async def leave_forwarding(connection: AsyncConnection, digest: bytes, new_digest: bytes, now: int) -> None:
    """Leave a note of where a session went; see `MOVED`."""
    # Of an earlier move from there; and one from the new id, or two moves there and back would lead in a circle.
    await connection.execute(delete(chunks).where(_moved(digest, new_digest)))
    data = now.to_bytes(8, "big") + new_digest
    await connection.execute(insert(chunks).values(version=0, id=digest, seq=MOVED, data=data))


async def moves(
    connection: AsyncConnection, digest: bytes, since: int, *, latest: bool = False
) -> list[tuple[int, bytes]]:
    """The moves of a session from an id on: when each was, and to which digest.

    Args:
        connection: To the database.
        digest: Of the id.
        since: When the first may have been.
        latest: Whether to see what was committed after the transaction began, whatever its isolation.

    Returns:
        The moves. The digest of the last one is empty if the session was ended.
    """
    found: list[tuple[int, bytes]] = []
    while len(found) < MAX_MOVES:
        move = await _find_forwarding(connection, digest, latest=latest)
        if move is None or move[0] < since:
            break
        found.append(move)
        if not move[1]:
            break
        digest = move[1]
    return found


def newest(digest: bytes, moves: Sequence[tuple[int, bytes]]) -> bytes:
    """The digest of the last id that a session had after some moves, of which the last may be its end."""
    return next((new for _, new in reversed(moves) if new), digest)


async def _find_forwarding(
    connection: AsyncConnection, digest: bytes, *, latest: bool
) -> tuple[int, bytes] | None:
    """When a session was moved, and to which digest; an empty one if it was ended, None if neither was lately."""
    notes = select(c.seq, c.data).where(c.version == 0, c.id == digest, c.seq <= MOVED)  # and tombstones
    if latest:
        notes = notes.with_for_update(read=True)
    found = [
        (int.from_bytes(data[:8], "big"), data[8:])
        if seq == MOVED
        else (int.from_bytes(data[16:], "big"), b"")
        for seq, data in await connection.execute(notes)
    ]
    last = max(found, default=(0, b""))
    return last if last[0] else None


def _moved(*digests: bytes) -> ColumnElement[bool]:
    return and_(c.version == 0, c.id.in_(digests), c.seq == MOVED)
