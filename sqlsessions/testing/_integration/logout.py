"""The end of a session, which is final, and the sessions of a user."""

from __future__ import annotations

import pytest

from ...records import digest
from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration, held, live
from .browser import Browser
from .gate import Gate


class Logout(Integration):
    async def test_a_logout_ends_the_session(self, browser: Browser, storage: SpyStorage) -> None:
        old = await browser.begin(a=1)
        await browser.post("/logout")
        assert browser.id is None
        assert await storage.delegate.info(old) is None
        assert await browser.other(old).data() == {}

    async def test_a_logout_clears_the_cookie(self, browser: Browser) -> None:
        await browser.begin(a=1)
        cookie = browser.cookie(await browser.post("/logout"))
        assert cookie is not None
        assert cookie.clears

    async def test_a_logout_ends_the_session_of_a_user(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.post("/login", user="7")
        old = browser.has_id()
        await browser.post("/logout")
        assert await live(storage) == []
        assert await browser.other(old).data() == {}

    async def test_a_slow_change_does_not_undo_a_logout(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        async with held(gate, browser.other(old).held("/put", late=1), browser.other(old).held("/nest")):
            await browser.post("/logout")
        assert await storage.delegate.info(old) is None
        assert await live(storage) == []
        assert await browser.other(old).data() == {}

    @pytest.mark.parametrize("path", ["/put", "/nest", "/regenerate"])
    async def test_a_slow_request_after_a_logout_gets_no_cookie(
        self, browser: Browser, gate: Gate, path: str
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held(path, user="7")) as responses:
            await browser.post("/logout")
        assert slow.cookie(responses[0]) is None

    async def test_a_slow_change_of_the_id_does_not_undo_a_logout(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/regenerate")):
            await browser.post("/logout")
        assert await live(storage) == []

    @pytest.mark.parametrize("path", ["/regenerate", "/login"])
    async def test_a_slow_logout_ends_a_session_whose_id_changed(
        self, browser: Browser, storage: SpyStorage, gate: Gate, path: str
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/logout")):
            await browser.post(path, user="7")
        assert await live(storage) == []

    async def test_without_a_user_there_is_nothing_to_list_or_end(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        other = browser.other()
        await other.begin(a=1)
        key = digest(other.has_id()).hex()
        visitor = browser.other()
        for _ in range(2):  # without a session, and with one
            assert (await visitor.get("/sessions")).json() == []
            assert (await visitor.post("/end", key=key)).json() is False
            assert (await visitor.post("/end_others")).json() == 0
            await visitor.begin(b=1)
        assert len(await live(storage)) == 2

    async def test_a_user_lists_and_ends_sessions(self, browser: Browser, clock: ManualClock) -> None:
        first, second, third, stranger = (browser.other() for _ in range(4))
        for one, user in ((first, "7"), (second, "7"), (third, "7"), (stranger, "8")):
            await one.post("/login", user=user)
            clock.advance(1)
        newest, middle, own = (await first.get("/sessions")).json()
        [theirs] = (await stranger.get("/sessions")).json()
        assert (await first.post("/end", key=theirs)).json() is False
        assert (await first.post("/end", key=newest)).json() is True
        assert (await first.post("/end", key=newest)).json() is False
        assert await third.data() == {}
        assert (await first.get("/sessions")).json() == [middle, own]
        assert (await first.post("/end_others")).json() == 1
        assert (await first.get("/sessions")).json() == [own]
        assert (await stranger.get("/sessions")).json() == [theirs]

    async def test_to_end_the_other_sessions_spares_the_own_whose_id_changed(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        await browser.other().post("/login", user="7")
        await browser.post("/login", user="7", a=1)
        slow = browser.other(browser.has_id())
        async with held(gate, slow.held("/end_others")) as responses:
            await browser.post("/regenerate")
        assert responses[0].json() == 1
        assert await browser.data() == {"a": "1"}
        assert len(await live(storage)) == 1

    async def test_a_user_ends_the_own_session(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.post("/login", user="7")
        [own] = (await browser.get("/sessions")).json()
        assert (await browser.post("/end", key=own)).json() is True
        assert await live(storage) == []
        assert await browser.data() == {}
