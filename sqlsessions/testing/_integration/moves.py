"""Requests that come late, when their session has another id; in several processes over one storage."""

from __future__ import annotations

import asyncio
import random

import pytest

from .._base import PATIENCE
from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration, held, live
from .browser import ERROR, Browser
from .gate import Gate
from .http import HttpRequest, HttpResponse

ROUNDS = 10
moving = pytest.mark.parametrize("path", ["/login", "/regenerate"])


class Moves(Integration):
    @moving
    async def test_a_late_look_in_another_process_leaves_the_cookie(
        self, browser: Browser, storage: SpyStorage, gate: Gate, path: str
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post(path, user="7")
        async with self.serving(storage, gate) as elsewhere:
            late = elsewhere.other(old)
            response = await late.get("/show")
            assert response.json() == {}
            assert late.cookie(response) is None
            assert await elsewhere.other(browser.has_id()).data() == {"a": "1"}

    @moving
    async def test_a_late_change_in_another_process_begins_no_session(
        self, browser: Browser, storage: SpyStorage, gate: Gate, path: str
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post(path, user="7")
        async with self.serving(storage, gate) as elsewhere:
            late = elsewhere.other(old)
            assert late.cookie(await late.send("POST", "/put", late=1)) is None
            assert len(await live(storage)) == 1
            assert await elsewhere.other(browser.has_id()).data() == {"a": "1"}

    @moving
    async def test_a_late_logout_in_another_process_ends_the_session(
        self, browser: Browser, storage: SpyStorage, gate: Gate, path: str
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post(path, user="7")
        async with self.serving(storage, gate) as elsewhere:
            await elsewhere.other(old).post("/logout")
            assert await live(storage) == []
            assert await browser.data() == {}

    async def test_a_late_login_is_one(self, browser: Browser, storage: SpyStorage, gate: Gate) -> None:
        old = await browser.begin(a=1)
        await browser.post("/login", user="7")
        async with self.serving(storage, gate) as elsewhere:
            late = elsewhere.other(old)
            await late.post("/login", user="7", b=2)
            assert late.id not in (None, old, browser.id)
            assert await late.data() == {"b": "2"}
            assert await browser.data() == {"a": "1"}

    async def test_a_login_that_is_sent_twice_counts_whichever_response_does(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        async with self.serving(storage, gate) as elsewhere:
            both = [browser.other(old), elsewhere.other(old)]
            async with held(gate, *(one.held("/login", user="7") for one in both)) as responses:
                pass
            assert all(response.status < ERROR for response in responses)
            for one in both:
                info = await storage.delegate.info(one.has_id())
                assert info is not None
                assert info.subject == "7"
                assert await one.data() == {"a": "1"}

    async def test_a_slow_change_follows_a_new_id(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        async with self.serving(storage, gate) as elsewhere:
            slow = elsewhere.other(old)
            async with held(gate, slow.held("/put", late=1)) as responses:
                await browser.post("/regenerate")
                await browser.post("/put", b=2)
            assert slow.cookie(responses[0]) is None
            assert await browser.data() == {"a": "1", "b": "2", "late": "1"}

    @moving
    async def test_a_slow_answer_leaves_the_new_cookie(
        self, storage: SpyStorage, gate: Gate, clock: ManualClock, path: str
    ) -> None:
        async with self.serving(storage, gate, ttl=100) as browser:
            old = await browser.begin(a=1)
            clock.advance(1)
            poll = browser.other(old)
            answers = [await poll.post("/put", b=2), await poll.post("/nest"), await poll.get("/show")]
            await browser.post(path, user="7")
            new = browser.has_id()
            for answer in answers:
                browser.receive(answer)
            assert browser.id == new

    async def test_a_slow_login_after_a_logout_is_one(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        slow = browser.other(old)
        async with held(gate, slow.held("/login", user="7", b=2)):
            await browser.post("/logout")
        assert slow.id not in (None, old)
        assert [info.subject for info in await live(storage)] == ["7"]
        assert await slow.data() == {"b": "2"}

    async def test_a_late_request_after_a_logout_leaves_the_next_cookie(
        self, browser: Browser, storage: SpyStorage, gate: Gate, clock: ManualClock
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post("/logout")
        await browser.begin(b=2)
        new = browser.has_id()
        clock.advance(9)
        async with self.serving(storage, gate) as elsewhere:
            late = elsewhere.other(old)
            look = await late.get("/show")
            assert look.json() == {}
            answers = [look, await late.send("POST", "/put", late=1), await late.send("POST", "/logout")]
            for answer in answers:
                browser.receive(answer)
            assert browser.id == new
            assert len(await live(storage)) == 1

    async def test_a_late_login_after_a_logout_is_one(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        old = await browser.begin(a=1)
        await browser.post("/logout")
        async with self.serving(storage, gate) as elsewhere:
            late = elsewhere.other(old)
            await late.post("/login", user="7", b=2)
            assert late.id not in (None, old)
            assert await late.data() == {"b": "2"}

    async def test_a_slow_request_after_a_logout_leaves_the_next_cookie(
        self, browser: Browser, gate: Gate, clock: ManualClock
    ) -> None:
        """However long it takes until it looks at the session: it began before."""
        old = await browser.begin(a=1)
        slow = browser.other(old)
        async with held(gate, slow.held("/put", late=1)) as responses:
            await browser.post("/logout")
            clock.advance(30)
            new = await browser.begin(b=2)
        browser.receive(responses[0])
        assert browser.id == new

    async def test_a_login_again_gives_a_new_id(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.post("/login", user="7", a=1)
        old = browser.has_id()
        await browser.post("/login", user="7")
        assert browser.id not in (None, old)
        assert await storage.delegate.info(old) is None
        assert await browser.data() == {"a": "1"}

    async def test_a_login_of_another_user_drops_the_data(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        await browser.post("/login", user="7", a=1)
        old = browser.has_id()
        await browser.post("/login", user="8", b=2)
        assert await storage.delegate.info(old) is None
        assert [info.subject for info in await live(storage)] == ["8"]
        assert await browser.data() == {"b": "2"}

    async def test_a_browser_that_polls_loses_no_login_and_no_logout(
        self, storage: SpyStorage, gate: Gate
    ) -> None:
        """All of its requests are under way at once, each at one of two processes."""
        gate.open()
        async with (
            self.client(storage, gate, expire_at_browser_close=True) as one,
            self.client(storage, gate, expire_at_browser_close=True) as other,
        ):

            async def send(request: HttpRequest) -> HttpResponse:
                await _pause()
                response = await random.choice([one, other])(request)
                await _pause()
                return response

            for _ in range(ROUNDS):
                browser = Browser(send, self.cookie_name)
                await browser.begin(a=1)
                polls = [browser.get("/show", hold=True) for _ in range(6)]
                logins = [browser.held("/login", user="7") for _ in range(2)]
                async with asyncio.timeout(PATIENCE):
                    responses = await asyncio.gather(*polls, *logins)
                assert all(response.status < ERROR for response in responses)
                left = browser.has_id()
                info = await storage.delegate.info(left)
                assert info is not None
                assert info.subject == "7"
                polls = [browser.get("/show", hold=True) for _ in range(6)]
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*polls, browser.held("/logout"))
                assert await storage.delegate.info(left) is None
                assert browser.id is None


async def _pause() -> None:
    """Let other requests go on, now more and now less."""
    for _ in range(random.randrange(20)):
        await asyncio.sleep(0)
