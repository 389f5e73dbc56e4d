"""The bound on the live sessions of a subject, kept in the transaction of the write that gives a session to it."""

from __future__ import annotations

from hashlib import sha256

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ...records import Cap
from ..dialects import Dialect
from ..models import SUBJECT, chunks, sessions
from .single import live_at
from .transactions import Stored, locked

c, k = sessions.c, chunks.c


async def make_room(
    connection: AsyncConnection,
    dialect: Dialect,
    cap: Cap,
    digest: bytes,
    subject: str,
    *,
    namespace: bytes | None,
    within: ColumnElement[bool],
    now: int,
) -> list[Stored]:
    """Hold up other writes that give sessions to a subject, and lock the sessions that must end for one more.

    Args:
        connection: In a transaction, at its beginning.
        dialect: The database.
        cap: The bound.
        digest: The session that the subject gets, if it does not have it.
        subject: Whose.
        namespace: What the digests of the namespace begin with.
        within: The rows of the namespace.
        now: The time.

    Returns:
        The sessions to end, locked.

    Raises:
        TooManySessions: If the bound is reached, and no session is to end for another.
    """
    if not dialect.serial:
        await _hold(connection, dialect, sha256((namespace or b"") + b"\0" + subject.encode()).digest())
    own = (
        select(c.id)
        .where(within, dialect.subject_is(c.subject, subject), live_at(now))
        .order_by(c.created_at.desc(), c.id.desc())
    )
    while True:
        found = [bytes(id) for id in (await connection.execute(own)).scalars()]
        excess = cap.excess(found, digest)
        if not excess:
            return []
        rows = await locked(connection, c.id.in_([digest, *excess]))
        ending = [stored for stored in rows if stored.id in excess and stored.record.subject == subject]
        if len(ending) == len(excess):  # else one was given another id, or ended, before it was locked
            return ending


async def _hold(connection: AsyncConnection, dialect: Dialect, name: bytes) -> None:
    """Wait for all others who hold a name, and hold it until the end of the transaction; see `SUBJECT`."""
    key = {"version": 0, "id": name, "seq": SUBJECT}
    row = dialect.insert(chunks).values(**key, data=b"")
    await connection.execute(dialect.waiting(row, k.seq))
    await connection.execute(delete(chunks).where(*(k[column] == value for column, value in key.items())))
