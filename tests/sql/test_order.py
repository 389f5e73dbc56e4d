"""The changes of one session by one process take effect in the order in which they were called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage, StorageClosed
from sqlsessions.sql.statements import transactions
from sqlsessions.testing._base import PATIENCE, provider_of

from .support import INLINE, LARGE, TINY, each_server, mariadb, postgresql

Call = Callable[[SqlSessionStorage], Coroutine[Any, Any, Any]]

# A call that needs a transaction of its own, which it gets from this function, and what it makes of "id" and "new".
CALLS: dict[str, tuple[Call, str]] = {
    "small over large": (lambda s: s.write_bytes("id", INLINE), "replace"),
    "large": (lambda s: s.write("id", provider_of(LARGE)), "replace"),
    "rotate": (lambda s: s.rotate("id", "new"), "move"),
}


class Held:
    """Holds up a function of `transactions` until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self.released = asyncio.Event(), asyncio.Event()
        self._function = getattr(transactions, name)
        monkeypatch.setattr(transactions, name, self)

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.reached.set()
        await self.released.wait()
        return await self._function(*arguments, **options)


@each_server
@pytest.mark.parametrize("name", CALLS)
async def test_a_logout_called_later_is_not_undone(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, function = CALLS[name]
    async with SqlSessionStorage(sql_url, **TINY) as storage, asyncio.timeout(PATIENCE):
        await storage.write_bytes("id", LARGE)
        held = Held(monkeypatch, function)
        first = asyncio.create_task(call(storage))
        await held.reached.wait()
        logouts = [asyncio.create_task(storage.invalidate(id)) for id in ("id", "new")]
        for number in range(5):  # in which the logouts would have ended
            await storage.write_bytes("other", b"%d" % number)
        held.released.set()
        await asyncio.gather(first, *logouts)
        assert await storage.load("id") is await storage.load("new") is None


@mariadb
async def test_a_plain_write_called_after_a_conditional_one_comes_last(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqlSessionStorage(sql_url, **TINY) as storage, asyncio.timeout(PATIENCE):
        info = await storage.write_bytes("id", LARGE)
        held = Held(monkeypatch, "replace")
        first = asyncio.create_task(storage.write_bytes("id", b"first", if_match=info.version))
        await held.reached.wait()
        second = asyncio.create_task(storage.write_bytes("id", b"second"))
        for number in range(5):
            await storage.write_bytes("other", b"%d" % number)
        held.released.set()
        await asyncio.gather(first, second)
        assert await storage.read_bytes("id") == b"second"


@postgresql
async def test_closing_waits_for_turns_and_cancelling_ends_them(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = SqlSessionStorage(sql_url, **TINY)
    async with asyncio.timeout(PATIENCE):
        await storage.write_bytes("id", LARGE)
        held = Held(monkeypatch, "replace")
        first = asyncio.create_task(storage.write_bytes("id", INLINE))
        await held.reached.wait()
        waiting = [asyncio.create_task(storage.rotate("id", f"new {number}")) for number in range(2)]
        last = asyncio.create_task(storage.invalidate("id"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.aclose())
        waiting[0].cancel()
        first.cancel()
        await asyncio.sleep(0)
        assert not closing.done()
        held.released.set()
        await closing
        outcomes = await asyncio.gather(first, *waiting, last, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
        StorageClosed,
        type(None),
    ]
    async with SqlSessionStorage(sql_url) as storage:
        assert await storage.load("id") is None
