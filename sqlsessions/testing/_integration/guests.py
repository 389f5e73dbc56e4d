"""Guests, whose sessions have no subject, with a timeout of their own."""

from __future__ import annotations

from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration
from .browser import Browser
from .gate import Gate
from .http import HttpResponse

_LIMITS = {"ttl": 1000, "anonymous_ttl": 100}


class Guests(Integration):
    async def test_a_guest_has_a_timeout_of_its_own(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, **_LIMITS) as browser:
            assert _age(browser, await browser.post("/put", a=1)) == "100"
            for number in range(3):
                clock.advance(60)
                assert _age(browser, await browser.post("/put", number=number)) == "100"
            id = browser.has_id()
            clock.advance(101)
            assert await browser.other(id).data() == {}

    async def test_a_login_gives_a_guest_the_timeout_of_users(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, **_LIMITS) as browser:
            await browser.begin(a=1)
            clock.advance(60)
            assert _age(browser, await browser.post("/login", user=7)) == "1000"
            for number in range(3):
                clock.advance(900)
                assert _age(browser, await browser.post("/put", number=number)) == "1000"
            assert (await browser.data())["a"] == "1"

    async def test_a_login_without_a_session_has_the_timeout_of_users(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, **_LIMITS) as browser:
            await browser.post("/login", user=7, a=1)
            clock.advance(900)
            assert await browser.data() == {"a": "1"}

    async def test_what_takes_the_place_of_a_users_session_is_a_guests(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        async with self.serving(storage, gate, **_LIMITS) as browser:
            await browser.post("/login", user=7)
            await browser.post("/logout")
            assert _age(browser, await browser.post("/put", b=2)) == "100"
            clock.advance(101)
            assert await browser.data() == {}


def _age(browser: Browser, response: HttpResponse) -> str | None:
    cookie = browser.cookie(response)
    return None if cookie is None else cookie.attributes.get("max-age")
