"""Small reads and writes where the server is not next door, or its disk is slow: by the number of callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlsessions import new_session_id

from .distance import further_away
from .load import blob
from .own_servers import Unavailable
from .scratch import database
from .throughput import compare, fill, opened
from .worker import run, say

SIZE = 1024
SESSIONS = 2048
CALLERS = (1, 16, 64, 256, 1024)
SECONDS = 0.5
"""Length of a slice: one peer, one operation, one round."""

ON_POSTGRESQL = ("sqlsessions, PostgreSQL", "raw asyncpg pool", "raw psycopg pipeline")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers are.

    Attributes:
        peers: Who is compared.
        operations: Which of ``read`` and ``write`` differ there from what they are next door.
        round_trip: Seconds that a round trip takes more than on loopback.
        fsync: Seconds that an fsync of the server takes more; of SQLite, one of the client's process.
    """

    peers: Sequence[str]
    operations: Sequence[str] = ("write",)
    round_trip: float = 0.0
    fsync: float = 0.0


PLACES = {
    "1 ms of round trip": Place(
        (*ON_POSTGRESQL, "valkey-glide, Redis", "valkey-glide, Redis always"),
        ("read", "write"),
        round_trip=0.001,
    ),
    "commits of 5 ms": Place((*ON_POSTGRESQL, "valkey-glide, Redis always"), fsync=0.005),
    "commits of 20 ms": Place((*ON_POSTGRESQL, "valkey-glide, Redis always"), fsync=0.020),
    "SQLite, fsync of 2 ms": Place(("sqlsessions, SQLite FULL", "raw aiosqlite FULL"), fsync=0.002),
}


def collect(
    *,
    rounds: int,
    quick: bool,
    servers: Sequence[str],
    save: Callable[[dict[str, Any]], None],
    places: Sequence[str] = tuple(PLACES),
    kept: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Measure at each place, in a process of its own, and save after each.

    What was `kept` of other places stays.
    """
    merged: dict[str, Any] = {"cells": list(kept), "skipped": {}}
    for place in places:
        slow_client = PLACES[place].fsync if place.startswith("SQLite") else 0.0
        try:
            part = run(
                "distances", fsync=slow_client, rounds=rounds, place=place, servers=servers, quick=quick
            )
        except Unavailable as error:
            merged["skipped"][place] = str(error)
            continue
        merged["cells"] = [cell for cell in merged["cells"] if cell["place"] != place]
        merged["cells"] += [{"place": place} | cell for cell in part["cells"]]
        merged["skipped"] |= {f"{name}, {place}": why for name, why in part["skipped"].items()}
        save(merged)
    return merged


async def measure(rounds: int, place: str, servers: Sequence[str], quick: bool) -> dict[str, Any]:
    """Measure at one place."""
    where = PLACES[place]
    ids = [new_session_id() for _ in range(64 if quick else SESSIONS)]
    data = blob(SIZE)
    cells: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}

    @asynccontextmanager
    async def there(kind: str) -> AsyncIterator[str]:
        fsync = 0.0 if kind == "sqlite" else where.fsync
        async with database(kind, fsync=fsync) as url:
            if not where.round_trip:
                yield url
                return
            async with further_away(url, where.round_trip) as further:
                yield further

    async with opened(where.peers, servers, ids, there) as (sides, missing):
        skipped |= missing
        for name, peer in sides.items():
            await fill(name, peer, ids, data, callers=min(256, len(ids)))
        for callers in CALLERS[:2] if quick else CALLERS:
            for operation in where.operations if sides else ():
                say(f"{place}: {operation}, {callers} callers")
                cells += await compare(
                    sides,
                    ids,
                    data,
                    operation,
                    callers,
                    rounds=rounds,
                    seconds=0.05 if quick else SECONDS,
                    failed=skipped,
                    apart=True,
                )
    return {"cells": cells, "skipped": skipped}
