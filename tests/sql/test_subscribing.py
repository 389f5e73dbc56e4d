"""Who subscribes to a storage hears at once what others change."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlsessions import CacheStorage, SqlSessionStorage

from ..cache.support import key
from .buses import until
from .support import sqlite
from .test_bus_postgresql import each_listener


@each_listener
async def test_who_subscribes_hears_of_changes_elsewhere(sql_url: str) -> None:
    """As open connections do, which end with their session."""
    heard: list[Any] = []
    async with SqlSessionStorage(sql_url) as here, SqlSessionStorage(sql_url) as there:
        await there.write_bytes("id", b"data", subject="ann")
        end = CacheStorage(here).subscribe(heard.append)
        bus = here.bus()
        assert bus is not None

        async def is_proven() -> bool:
            return bus.statistics.proven

        await until(is_proven)
        await there.revoke("ann")

        async def told() -> bool:
            return [key("id")] in heard

        await until(told)
        end()
        heard.clear()
        await there.write_bytes("id", b"again")
        await there.invalidate("id")
        await asyncio.sleep(0.1)
        assert heard == []


@sqlite
async def test_who_subscribes_hears_of_changes_by_the_same_storage(sql_url: str) -> None:
    heard: list[Any] = []
    async with SqlSessionStorage(sql_url) as storage:
        await storage.write_bytes("id", b"data")
        storage.subscribe(heard.append)
        await storage.invalidate("id")
        assert heard == [[key("id")]]
