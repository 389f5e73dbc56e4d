"""The clients and the checker together find what is wrong with storages that are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .broken import RIGHT, WRONG, Late, Overlapping
from .checker import check
from .clients import Client, Habits
from .history import History

MOST = 60  # histories until a fault must have been found


async def record(storage: Overlapping, seed: int, *, clients: int = 6, cancelled: float = 0.0) -> History:
    events: list[dict[str, Any]] = []
    habits = Habits(operations=15, pause=0.0, cancelled=cancelled)
    versions: dict[int, int] = {}
    ids = ["one", "two", "three"]
    await asyncio.gather(
        *(
            Client(storage, ids, number, f"{seed} {number}", events.append, habits, versions).run()
            for number in range(clients)
        )
    )
    history = History.of(events, cancelled_end=True)
    assert not history.errors
    assert len(history.operations) == clients * habits.operations
    return history


@pytest.mark.parametrize("kind", RIGHT)
async def test_a_right_storage_is_linearizable(kind: type[Overlapping]) -> None:
    for seed in range(20):
        history = await record(kind(seed), seed, cancelled=0.1)
        assert check(history.operations).kind == "linearizable", seed


@pytest.mark.parametrize("kind", WRONG)
async def test_a_wrong_storage_is_found_out(kind: type[Overlapping]) -> None:
    for seed in range(MOST):
        history = await record(kind(seed), seed, cancelled=0.3 if kind is Late else 0.0)
        if check(history.operations).kind == "violation":
            return
    pytest.fail(f"{MOST} histories, and no violation")
