"""Which namespaces have live sessions in a database; it holds hashes of their names, not the names."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..._digests import NAMESPACED, PREFIX
from ..models import sessions
from ..statements.listing import within
from ..statements.single import live_at

MOST = 1000
"""How many are looked for."""

c = sessions.c


async def namespaces(connection: AsyncConnection, now: int) -> list[bytes | None]:
    """The first bytes of the digests of each namespace that has live sessions; None for those of no namespace.

    One statement for each, and none reads more than what is expired of the primary key.
    """
    found: list[bytes | None] = []
    live = select(c.id).where(live_at(now)).order_by(c.id).limit(1)
    if (await connection.execute(live.where(within(None)))).first() is not None:
        found.append(None)
    after = NAMESPACED
    while len(found) < MOST:
        first = (await connection.execute(live.where(within(NAMESPACED), c.id >= after))).scalar()
        if first is None:
            break
        prefix = bytes(first)[:PREFIX]
        found.append(prefix)
        if (following := int.from_bytes(prefix, "big") + 1) >> 8 * PREFIX:
            break
        after = following.to_bytes(PREFIX, "big")
    return found
