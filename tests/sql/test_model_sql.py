"""Any sequence of calls does on SQL what it does on the model, also through a cache."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from sqlsessions import CacheStorage, EncryptedStorage, ManagedSessionStorage, SqlSessionStorage
from sqlsessions.storage import DEFAULT, KEEP
from sqlsessions.testing import ManualClock

from ..databases import available, migrated
from ..test_model import Rotate, Touch, Write, operations, play, touch_every
from .support import TINY

in_memory = settings(max_examples=80, deadline=None)
on_servers = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KEY = b"k" * 32
SERVERS = {"postgresql": "postgresql+asyncpg", "mariadb": "mysql+asyncmy"}


def sized(operations: list[Any], sizes: dict[int, int]) -> list[Any]:
    """The operations with other sizes of data."""
    return [
        replace(operation, size=sizes.get(operation.size, operation.size))
        if isinstance(operation, Write)
        else operation
        for operation in operations
    ]


def few_chunks(operations: list[Any]) -> list[Any]:
    """With large sessions of ten chunks, not hundreds: four are read at once."""
    return sized(operations, {70_000: 1000})


@in_memory
@given(operations, touch_every)
def test_sqlite_agrees_with_the_model(operations: list[Any], every: float | None) -> None:
    asyncio.run(
        play(
            lambda clock: SqlSessionStorage("sqlite://", clock=clock, touch_every=every, **TINY),
            few_chunks(operations),
        )
    )


@in_memory
@given(operations, touch_every)
@example([Write("a", 0, DEFAULT, DEFAULT, KEEP, "any"), Rotate("a", "A"), Touch("A", 0.5)], None)
def test_a_cache_over_sqlite_agrees_with_the_model(operations: list[Any], every: float | None) -> None:
    def create(clock: ManualClock) -> ManagedSessionStorage:
        sql = SqlSessionStorage("sqlite://", clock=clock, touch_every=every, **TINY)
        return CacheStorage(sql, max_entry_bytes=500, max_entries=2)

    # A cache turns a write that repeats the data into a touch, and empty data is always the same.
    asyncio.run(play(create, sized(few_chunks(operations), {0: 5})))


@pytest.mark.variant
@settings(max_examples=30, deadline=None)
@given(operations, touch_every)
def test_layers_over_keyed_ids_agree_with_the_model(operations: list[Any], every: float | None) -> None:
    def create(clock: ManualClock) -> ManagedSessionStorage:
        sql = SqlSessionStorage(
            "sqlite://",
            clock=clock,
            touch_every=every,
            namespace="shop",
            keys=[KEY],
            accept=[(None, None)],
            **TINY,
        )
        return CacheStorage(EncryptedStorage(sql, [KEY], encrypt_subjects=True), max_entry_bytes=500)

    asyncio.run(play(create, sized(few_chunks(operations), {0: 5})))


@pytest.mark.parametrize("kind", SERVERS)
@on_servers
@given(operations, touch_every)
def test_servers_agree_with_the_model(kind: str, operations: list[Any], every: float | None) -> None:
    url = migrated(kind).set(drivername=SERVERS[kind])
    available(kind).clear(url)
    asyncio.run(
        play(
            lambda clock: SqlSessionStorage(url, clock=clock, touch_every=every, **TINY),
            few_chunks(operations),
        )
    )
    available(kind).clear(url)
