"""When sessions end, and their cookies with them."""

from __future__ import annotations

from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration
from .gate import Gate

DAY = 24 * 60 * 60


class Expiry(Integration):
    async def test_an_idle_session_ends(self, storage: SpyStorage, gate: Gate, clock: ManualClock) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            id = await browser.begin(a=1)
            clock.advance(90)
            assert await browser.other(id).data() == {"a": "1"}
            clock.advance(101)
            assert await browser.other(id).data() == {}

    async def test_a_change_extends_a_session_and_its_cookie(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            await browser.begin(start=1)
            for number in range(5):
                clock.advance(60)
                cookie = browser.cookie(await browser.post("/put", number=number))
                assert cookie is not None
                assert cookie.attributes["max-age"] == "100"
            assert await browser.data() == {"start": "1", "number": "4"}

    async def test_frequent_changes_send_the_cookie_seldom_and_in_time(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=1000) as browser:
            await browser.begin(start=1)
            kept, sent = 1000.0, 0
            for number in range(300):
                clock.advance(7)
                kept -= 7
                cookie = browser.cookie(await browser.post("/put", number=number))
                if cookie is not None:
                    kept, sent = float(cookie.attributes["max-age"]), sent + 1
                assert kept > 940
            assert sent <= 300 * 7 / 50

    async def test_a_look_extends_a_session_and_its_cookie(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            await browser.begin(a=1)
            for _ in range(5):
                clock.advance(60)
                response = await browser.get("/show")
                assert response.json() == {"a": "1"}
                cookie = browser.cookie(response)
                assert cookie is not None
                assert cookie.attributes["max-age"] == "100"

    async def test_an_absolute_timeout_ends_a_session_in_use(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=100, absolute_timeout=250) as browser:
            id = await browser.begin(a=1)
            for _ in range(3):
                clock.advance(80)
                assert await browser.data() == {"a": "1"}
            clock.advance(11)
            assert await browser.other(id).data() == {}

    async def test_a_session_may_have_an_expiry_of_its_own(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            await browser.begin(a=1)
            cookie = browser.cookie(await browser.post("/remember", seconds=30 * DAY))
            assert cookie is not None
            assert cookie.attributes["max-age"] == str(30 * DAY)
            for number in range(3):
                clock.advance(29 * DAY)
                cookie = browser.cookie(await browser.post("/put", number=number))
                assert cookie is not None
                assert cookie.attributes["max-age"] == str(30 * DAY)
            assert await browser.data() == {"a": "1", "number": "2"}

    async def test_a_look_extends_a_session_with_an_expiry_of_its_own(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            await browser.begin(a=1)
            await browser.post("/remember", seconds=1000)
            for _ in range(3):
                clock.advance(900)
                assert await browser.data() == {"a": "1"}

    async def test_the_cookie_of_a_long_session_is_renewed(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        """Browsers keep none for more than 400 days."""
        async with self.serving(storage, gate, ttl=100) as browser:
            await browser.begin(a=1)
            await browser.post("/remember", seconds=30 * 365 * DAY)
            for _ in range(5):
                clock.advance(390 * DAY)
                cookie = browser.cookie(await browser.get("/show"))
                assert cookie is not None
                assert cookie.attributes["max-age"] == str(400 * DAY)
                storage.calls.clear()
                clock.advance(DAY)
                await browser.get("/show")
                assert storage.writes == []

    async def test_without_an_age_a_change_sets_no_cookie(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, expire_at_browser_close=True) as browser:
            await browser.begin(a=1)
            assert browser.cookie(await browser.post("/put", b=2)) is None

    async def test_without_an_age_the_browser_forgets_the_session(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, expire_at_browser_close=True) as browser:
            cookie = browser.cookie(await browser.post("/put", a=1))
            assert cookie is not None
            assert not cookie.attributes.get("max-age")
            id = browser.has_id()
            clock.advance(13 * DAY)
            assert await browser.other(id).data() == {"a": "1"}
            clock.advance(60 * DAY)
            assert await browser.other(id).data() == {}
