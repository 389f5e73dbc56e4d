"""Which session ids are accepted, and when a session gets another."""

from __future__ import annotations

import pytest

from ... import new_session_id
from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration, held
from .browser import Browser
from .gate import Gate

FOREIGN = [
    "A" * 43,  # as `new_session_id` makes them
    "x",
    "x" * 5000,
    "%00",
    '"quoted"',
    "null",
    "eyJhIjoxfQ.Zw.sig",
]
MALFORMED = ["' OR 1=1 --", '{"session": {"a": 1}}']  # which no browser would send
UNDER_WAY = 10  # seconds for which a request may have been sent before the end of its session
ending = pytest.mark.parametrize("ending", ["expired", "logged out", "ended elsewhere"])


async def cleared(browser: Browser) -> bool:
    """Whether a look at the session takes the browser's cookie away."""
    cookie = browser.cookie(await browser.get("/show"))
    return cookie is not None and cookie.clears


async def end(how: str, browser: Browser, storage: SpyStorage, clock: ManualClock) -> str:
    """End a session; gives its id."""
    old = await browser.begin(a=1)
    if how == "expired":
        clock.advance(101)
    elif how == "logged out":
        await browser.post("/logout")
    else:
        await storage.delegate.invalidate(old)
    clock.advance(UNDER_WAY)
    return old


class Ids(Integration):
    async def test_a_foreign_id_is_not_adopted(self, browser: Browser, storage: SpyStorage) -> None:
        for presented in FOREIGN + MALFORMED:
            storage.calls.clear()
            assert await browser.other(presented).data() == {}
            assert storage.writes == []
            fixated = browser.other(presented)
            await fixated.post("/put", a=1)
            assert fixated.id not in (None, presented)
            assert await storage.delegate.info(fixated.has_id()) is not None
            assert await fixated.data() == {"a": "1"}
            assert await browser.other(presented).data() == {}

    async def test_a_foreign_id_is_not_written_to(self, browser: Browser, storage: SpyStorage) -> None:
        presented = new_session_id()
        for path in ("/put", "/nest", "/put"):
            await browser.other(presented).post(path, a=1)
            assert await storage.delegate.info(presented) is None

    async def test_a_foreign_cookie_is_cleared(self, browser: Browser) -> None:
        for presented in FOREIGN:
            assert await cleared(browser.other(presented))

    async def test_a_malformed_cookie_is_cleared(self, browser: Browser) -> None:
        for presented in MALFORMED:
            assert await cleared(browser.other(presented))

    @ending
    async def test_the_id_of_a_session_that_ended_is_not_adopted(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock, ending: str
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            old = await end(ending, browser, storage, clock)
            assert await browser.other(old).data() == {}
            late = browser.other(old)
            await late.post("/put", b=2)
            assert late.id not in (None, old)
            assert await late.data() == {"b": "2"}
            assert await storage.delegate.info(old) is None

    @ending
    async def test_the_cookie_of_a_session_that_ended_is_cleared(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock, ending: str
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            assert await cleared(browser.other(await end(ending, browser, storage, clock)))

    async def test_a_login_gives_a_new_id(self, browser: Browser, storage: SpyStorage) -> None:
        old = await browser.begin(a=1)
        await browser.post("/login", user="7")
        assert browser.id not in (None, old)
        assert await browser.data() == {"a": "1"}
        assert await storage.delegate.info(old) is None
        assert await browser.other(old).data() == {}

    async def test_a_login_names_the_subject(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        await browser.post("/login", user="7")
        info = await storage.delegate.info(browser.has_id())
        assert info is not None
        assert info.subject == "7"

    async def test_a_login_without_a_session_begins_one(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.post("/login", user="7")
        info = await storage.delegate.info(browser.has_id())
        assert info is not None
        assert info.subject == "7"

    async def test_a_login_may_keep_the_id(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, rotate_on_login=False) as browser:
            old = await browser.begin(a=1)
            await browser.post("/login", user="7")
            assert browser.id == old
            info = await storage.delegate.info(old)
            assert info is not None
            assert info.subject == "7"

    async def test_a_new_id_on_demand(self, browser: Browser, storage: SpyStorage) -> None:
        old = await browser.begin(a=1)
        await browser.post("/regenerate")
        assert browser.id not in (None, old)
        assert await browser.data() == {"a": "1"}
        assert await storage.delegate.info(old) is None

    async def test_replaced_data_gets_a_new_id(self, browser: Browser, storage: SpyStorage) -> None:
        old = await browser.begin(a=1)
        await browser.post("/replace", b=2)
        assert browser.id not in (None, old)
        assert await browser.data() == {"b": "2"}
        assert await storage.delegate.info(old) is None

    async def test_a_replacement_without_a_session_begins_one(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        await browser.post("/replace", b=2)
        assert storage.calls == ["write"]
        assert await browser.data() == {"b": "2"}

    async def test_the_id_from_before_a_replacement_does_not_clear_the_new_cookie(
        self, browser: Browser
    ) -> None:
        """A request that was sent before the browser had the new cookie may arrive late."""
        old = await browser.begin(a=1)
        await browser.post("/replace", b=2)
        late = browser.other(old)
        response = await late.get("/show")
        assert response.json() == {}
        assert late.cookie(response) is None

    async def test_a_slow_request_does_not_undo_a_login(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        slow = browser.other(old)
        async with held(gate, slow.held("/put", late=1)) as responses:
            await browser.post("/login", user="7")
        assert slow.cookie(responses[0]) is None
        assert await storage.delegate.info(old) is None
        assert await browser.data() == {"a": "1"}

    async def test_a_slow_login_keeps_changes_made_meanwhile(self, browser: Browser, gate: Gate) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/login", user="7", mine=1)):
            await browser.post("/put", b=2)
        assert slow.id != browser.id
        assert await slow.data() == {"a": "1", "b": "2", "mine": "1"}
