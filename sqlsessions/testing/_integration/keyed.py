"""Applications that log a user in by a key of the session alone."""

from __future__ import annotations

from ..spy import SpyStorage
from .base import Integration, live
from .gate import Gate


class Keyed(Integration):
    async def test_a_key_logs_a_user_in(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, subject_key="user") as browser:
            old = await browser.begin(a=1)
            await browser.post("/put", user=7)
            assert browser.id not in (None, old)
            assert await browser.data() == {"a": "1", "user": "7"}
            assert await browser.other(old).data() == {}
            [info] = await live(storage)
            assert info.subject == "7"
            assert (await browser.get("/sessions")).json() == [info.key]

    async def test_a_key_that_stays_costs_nothing(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, subject_key="user") as browser:
            id = await browser.begin(user=7)
            storage.calls.clear()
            await browser.get("/show")
            await browser.post("/put", user=7)
            assert storage.calls == ["read", "read"]
            await browser.post("/put", b=2)
            assert browser.id == id

    async def test_a_key_of_another_user_leaves_nothing_of_the_first(
        self, storage: SpyStorage, gate: Gate
    ) -> None:
        async with self.serving(storage, gate, subject_key="user") as browser:
            await browser.begin(user=7, secret=1)
            await browser.post("/put", user=8)
            assert await browser.data() == {"user": "8"}
            assert [info.subject for info in await live(storage)] == ["8"]
