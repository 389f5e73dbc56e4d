"""Reads and writes of small sessions: every peer in turn, round after round."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from typing import Any

from sqlsessions import new_session_id

from .environment import now
from .load import blob, drive
from .peers import OURS, STORES, Peer, load
from .scratch import Unavailable, database
from .worker import run, say

SESSIONS = 1000
SECONDS = 0.3
"""Length of a slice: one peer, one operation, one round."""

SETTINGS = [(64, 1024), (1, 1024), (16, 1024), (256, 1024), (64, 200), (64, 16 * 1024), (64, 64 * 1024)]
"""Callers and bytes."""

CLIENT_SETTINGS = [(64, 1024), (1, 1024)]
"""The same, of what is measured against drivers and clients by hand."""


def collect(
    *,
    rounds: int,
    quick: bool,
    servers: Sequence[str],
    save: Callable[[dict[str, Any]], None],
    settings: Sequence[tuple[int, int]] = (),
    loops: Sequence[str] = ("asyncio", "uvloop"),
    peers: Sequence[str] = tuple(STORES),
    kept: Sequence[dict[str, Any]] = (),
    length: float = SECONDS,
) -> dict[str, Any]:
    """Measure each setting under each event loop, in a process of its own, and save after each.

    What was `kept` of other settings and loops stays.
    """
    merged: dict[str, Any] = {"cells": list(kept), "skipped": {}}
    seconds = 0.05 if quick else length
    for setting in settings or (SETTINGS[:2] if quick else SETTINGS):
        for loop in loops[:1] if quick else loops:
            if loop != "asyncio" and setting[1] != 1024:
                continue
            arguments: dict[str, Any] = {"setting": setting, "servers": servers, "peers": peers}
            part = run("throughput", loop, rounds=rounds, seconds=seconds, **arguments)
            new = {"loop": loop, "callers": setting[0], "size": setting[1]}
            merged["cells"] = [cell for cell in merged["cells"] if not new.items() <= cell.items()]
            merged["cells"] += [{"loop": loop} | cell for cell in part["cells"]]
            merged["skipped"] |= part["skipped"]
            save(merged)
    return merged


async def measure(
    rounds: int, seconds: float, setting: tuple[int, int], servers: Sequence[str], peers: Sequence[str]
) -> dict[str, Any]:
    """Measure under this event loop."""
    callers, size = setting
    ids = [new_session_id() for _ in range(SESSIONS)]
    data = blob(size)
    cells: list[dict[str, Any]] = []
    async with opened(peers, servers, ids) as (sides, skipped):
        for name, peer in sides.items():
            await fill(name, peer, ids, data)
        for operation in ("read", "write") if sides else ():
            cells += await compare(
                sides, ids, data, operation, callers, rounds=rounds, seconds=seconds, failed=skipped
            )
    return {"cells": cells, "skipped": skipped}


@asynccontextmanager
async def opened(
    names: Sequence[str],
    servers: Sequence[str],
    ids: Sequence[str],
    make: Callable[[str], AbstractAsyncContextManager[str]] = database,
) -> AsyncIterator[tuple[dict[str, Peer], dict[str, str]]]:
    """The peers that can run here, set up; and the others, each with why it cannot.

    Args:
        names: Of the peers.
        servers: Which may be used.
        ids: Of the sessions.
        make: Gives the URL of a database on a server.
    """
    sides: dict[str, Peer] = {}
    skipped: dict[str, str] = {}
    urls: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            try:
                made = load(name)
                if made.server not in servers:
                    continue
                if made.server == "sqlite" or made.server not in urls:
                    urls[made.server] = await stack.enter_async_context(make(made.server))
            except Unavailable as error:
                skipped[name] = str(error)
                say(f"{name}: skipped, {error}")
                continue
            peer = made(urls[made.server])
            await peer.setup(ids)
            stack.push_async_callback(peer.close)
            sides[name] = peer
        yield sides, skipped


async def fill(name: str, peer: Peer, ids: Sequence[str], data: bytes, *, callers: int = 16) -> None:
    """Write every session, and look that one comes back."""
    todo = iter(ids)

    async def writer() -> None:
        for id in todo:
            await peer.set(id, data)

    await asyncio.gather(*(writer() for _ in range(callers)))
    if await peer.get(ids[0]) != data:
        raise RuntimeError(f"{name} gives back other data than it was given")


async def compare(
    sides: dict[str, Peer],
    ids: Sequence[str],
    data: bytes,
    operation: str,
    callers: int,
    *,
    rounds: int,
    seconds: float,
    failed: dict[str, str],
    apart: bool = False,
) -> list[dict[str, Any]]:
    """Let every side do the same work in turn, round after round.

    Args:
        sides: The peers, by name; set up, with a session for each id.
        ids: Of the sessions.
        data: What is written, with a change.
        operation: ``read`` or ``write``.
        callers: How many at once.
        rounds: How often; and once more before, briefly.
        seconds: Length of a turn.
        failed: Gets what cannot do it, each with why.
        apart: Whether each caller has sessions of its own.
    """
    when = now()
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    order = list(sides.items())
    # SQLite does not write a page that stays the same.
    variants = cycle([number.to_bytes(4, "big") + data[4:] for number in range(64)])
    for number in range(rounds + 1):  # the first opens connections, and is short
        order.append(order.pop(0))  # nobody always runs in the wake of the same other
        for name, peer in order:
            call = peer.get if operation == "read" else partial(_set, peer, variants)
            try:
                length = seconds if number else seconds / 6
                sample = await drive(call, ids, callers=callers, seconds=length, apart=apart)
            except Exception as error:
                if name in OURS.values():
                    raise
                failed[f"{name}, {callers} callers, {len(data)} bytes, {operation}"] = type(error).__name__
                continue
            if number:
                samples[name].append(sample.json())
    say(f"{operation}, {callers} callers, {len(data)} bytes")
    return [
        {"peer": name, "op": operation, "callers": callers, "size": len(data)} | when | {"rounds": taken}
        for name, taken in samples.items()
        if len(taken) == rounds
    ]


async def _set(peer: Peer, variants: Iterator[bytes], id: str) -> None:
    await peer.set(id, next(variants))
