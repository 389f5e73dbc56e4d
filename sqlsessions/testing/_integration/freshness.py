"""Requests that need a recent login."""

from __future__ import annotations

from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration
from .browser import ERROR, Browser

UNAUTHORIZED = 401


async def is_fresh(browser: Browser) -> bool:
    """Whether a request passes that needs a login within the last 60 seconds."""
    response = await browser.send("POST", "/sensitive", seconds=60)
    assert response.status < ERROR or response.status == UNAUTHORIZED, response.body[:500]
    return response.status != UNAUTHORIZED


class Freshness(Integration):
    async def test_a_login_is_fresh_for_a_while(self, browser: Browser, clock: ManualClock) -> None:
        assert not await is_fresh(browser)
        await browser.begin(a=1)
        assert not await is_fresh(browser)
        await browser.post("/login", user="7")
        clock.advance(40)
        assert await is_fresh(browser)
        await browser.post("/put", b=2)
        clock.advance(40)
        assert not await is_fresh(browser)
        assert await browser.data() == {"a": "1", "b": "2"}
        await browser.post("/login", user="7")
        assert await is_fresh(browser)
        await browser.post("/logout")
        assert not await is_fresh(browser)

    async def test_to_authenticate_again_gives_a_new_id(
        self, browser: Browser, storage: SpyStorage, clock: ManualClock
    ) -> None:
        await browser.post("/login", user="7", a=1)
        old = browser.has_id()
        clock.advance(61)
        assert not await is_fresh(browser)
        await browser.post("/reauthenticate")
        assert browser.id not in (None, old)
        assert await storage.delegate.info(old) is None
        assert await is_fresh(browser)
        assert await browser.data() == {"a": "1"}
        assert not await is_fresh(browser.other(old))

    async def test_the_lack_of_a_fresh_login_is_a_problem(self, browser: Browser, clock: ManualClock) -> None:
        await browser.post("/login", user="7")
        id = browser.id
        clock.advance(61)
        response = await browser.send("POST", "/sensitive", seconds=60)
        assert response.status == UNAUTHORIZED
        assert response.all("Content-Type")[0].partition(";")[0] == "application/problem+json"
        problem = response.json()
        assert (problem["status"], problem["max_age"]) == (UNAUTHORIZED, 60)
        [challenge] = response.all("WWW-Authenticate")
        assert 'error="insufficient_user_authentication"' in challenge
        assert response.all("Cache-Control") == ["private"]
        assert browser.id == id
