"""A connection that is lost while it is set up is an error of ours, or is made again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage, StorageUnavailable

from ..faults.proxy import Loss, Proxy
from .support import each_network_driver

REQUESTS = 8  # the set-up of a connection takes fewer


@each_network_driver
@pytest.mark.parametrize("what", ["request", "answer"])
async def test_a_connection_that_is_lost_while_it_is_set_up(sql_url: str, what: Loss) -> None:
    lost = 0
    async with Proxy.to(sql_url) as proxy:
        for nth in range(1, REQUESTS + 1):
            with proxy.losing(what, nth):
                async with SqlSessionStorage(proxy.url) as storage:
                    with suppress(StorageUnavailable):
                        await storage.info("id")
            lost += proxy.lost
    assert lost >= 3


@each_network_driver
@pytest.mark.parametrize("nth", range(1, REQUESTS))
async def test_a_connection_that_falls_silent_while_it_is_set_up(sql_url: str, nth: int) -> None:
    """The next one does what the first could not, and closing waits for nothing."""
    limits: dict[str, Any] = {"connect_timeout": 0.5, "operation_timeout": 0.5}
    async with Proxy.to(sql_url) as proxy, asyncio.timeout(10):
        with proxy.losing("silence", nth):
            async with SqlSessionStorage(proxy.url, **limits) as storage:
                assert await storage.info("id") is None
