"""When the use of a session is noted, over a storage with a ``touch_every``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ... import SessionStorageMemory
from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration, held, live
from .gate import Gate

EVERY = 600


class Uses(Integration):
    @pytest.mark.parametrize("ttl", [None, 1000 * EVERY], ids=["endless", "long"])
    async def test_a_look_is_noted_once_it_is_due(
        self, gate: Gate, clock: ManualClock, ttl: float | None
    ) -> None:
        storage = SpyStorage(SessionStorageMemory(clock=clock, ttl=ttl, touch_every=EVERY))
        async with self.serving(storage, gate) as browser:
            id = await browser.begin(a=1)
            begun = await storage.delegate.info(id)
            assert begun is not None
            for _ in range(3):
                storage.calls.clear()
                for _ in range(2):
                    clock.advance((EVERY - 1) / 2)
                    await browser.get("/show")
                assert storage.writes == []
                clock.advance(1)
                response = await browser.get("/show")
                assert response.json() == {"a": "1"}
                assert storage.writes == ["touch"]
                assert browser.cookie(response) is None
                assert await storage.delegate.info(id) == replace(begun, used_at=clock.now)

    async def test_a_look_at_once_with_others_is_noted(self, gate: Gate, clock: ManualClock) -> None:
        storage = SpyStorage(SessionStorageMemory(clock=clock, touch_every=EVERY))
        async with self.serving(storage, gate) as browser:
            await browser.begin(a=1)
            clock.advance(EVERY)
            async with held(gate, *(browser.other(browser.id).get("/show", hold=True) for _ in range(5))):
                pass
            [info] = await live(storage)
            assert info.used_at == clock.now
            assert await browser.data() == {"a": "1"}

    async def test_a_new_id_is_a_use(self, gate: Gate, clock: ManualClock) -> None:
        storage = SpyStorage(SessionStorageMemory(clock=clock, touch_every=EVERY))
        async with self.serving(storage, gate) as browser:
            old = await browser.begin(a=1)
            clock.advance(EVERY)
            cookie = browser.cookie(await browser.post("/regenerate"))
            assert cookie is not None
            assert cookie.value == browser.id != old
            [info] = await live(storage)
            assert info.used_at == clock.now
