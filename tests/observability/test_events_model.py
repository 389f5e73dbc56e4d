"""Any sequence of calls tells of just the events that a small model says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sqlsessions import ManagedSessionStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.events import SessionEvent
from sqlsessions.testing import ManualClock

from ..databases import available, migrated
from ..sql.support import TINY
from ..test_model import Invalidate, Model, Purge, Revoke, Rotate, Write, operations
from .test_events import key

TOLD = ("created", "rotated", "invalidated")


def expected(model: Model, operation: Any, wrote: bool) -> set[tuple[str, str, str | None]]:
    """The events of an operation on the sessions that the model holds before it."""
    match operation:
        case Write(id=id) if wrote and model.live(id) is None:
            return {("created", key(id), None)}
        case Rotate(id=id, new_id=new_id) if model.live(id) and not model.live(new_id):
            return {("rotated", key(new_id), key(id))}
        case Invalidate(id=id) if model.live(id):
            return {("invalidated", key(id), None)}
        case Revoke(subject=subject, keep=keep):
            kept = (keep, keep and model.newest(keep))
            return {("invalidated", key(id), None) for id in model.of(subject) if id not in kept}
    return set()


def conflicts(model: Model, operation: Any) -> bool:
    """Whether a write is refused."""
    if not isinstance(operation, Write) or operation.match == "any":
        return False
    live = model.live(operation.id)
    before, last = model.versions[operation.id][-2:]
    wanted = {"none": 0, "last": last, "one before": before}[operation.match]
    return wanted != (live.info.version if live else 0)


async def play(create: Callable[..., ManagedSessionStorage], operations: list[Any]) -> None:
    clock = ManualClock()
    seen: list[SessionEvent] = []
    told = dict.fromkeys(("on_created", "on_rotated", "on_invalidated", "on_expired"), seen.append)
    async with create(clock=clock, **told) as storage:
        model = Model(storage, clock)
        for operation in operations:
            wanted = expected(model, operation, not conflicts(model, operation))
            expired = {key(id) for id, kept in model.kept.items() if model.expired(kept)}
            seen.clear()
            await operation.run(model)
            events = [(event.kind, event.key, event.previous_key) for event in seen if event.kind in TOLD]
            assert len(events) == len(seen) - sum(event.kind == "expired" for event in seen)
            assert sorted(map(str, events)) == sorted(map(str, wanted))
            for event in seen:
                assert (event.info is None) == (event.kind in ("invalidated", "expired"))
            gone = [event.key for event in seen if event.kind == "expired"]
            assert len(gone) == len(set(gone))
            assert set(gone) <= expired
            if isinstance(operation, Purge):
                assert set(gone) == expired


@settings(max_examples=150, deadline=None)
@given(operations)
def test_memory_tells_what_the_model_says(operations: list[Any]) -> None:
    asyncio.run(play(SessionStorageMemory, operations))


@settings(max_examples=60, deadline=None)
@given(operations)
def test_sqlite_tells_what_the_model_says(operations: list[Any]) -> None:
    asyncio.run(play(lambda **options: SqlSessionStorage("sqlite://", **TINY, **options), operations))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["postgresql"])
@given(operations)
def test_postgresql_tells_what_the_model_says(kind: str, operations: list[Any]) -> None:
    url = migrated(kind).set(drivername="postgresql+asyncpg")
    available(kind).clear(url)
    asyncio.run(play(lambda **options: SqlSessionStorage(url, **TINY, **options), operations))
    available(kind).clear(url)
