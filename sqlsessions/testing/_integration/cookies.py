"""The session cookie."""

from __future__ import annotations

import pytest

from ... import new_session_id
from ..clock import ManualClock
from ..spy import SpyStorage
from .base import Integration, live
from .browser import Browser, SetCookie
from .gate import Gate


async def given(browser: Browser) -> SetCookie:
    """The cookie of a new session."""
    cookie = browser.cookie(await browser.post("/put", a=1))
    assert cookie is not None
    return cookie


FEW = 5


def with_several(browser: Browser, *ids: str) -> Browser:
    """A browser that has several session cookies, as after a change of the cookie's path or domain."""
    return browser.other(f"; {browser.cookie_name}=".join(ids))


class Cookies(Integration):
    async def test_the_cookie_is_for_this_host_and_no_script(self, browser: Browser) -> None:
        attributes = (await given(browser)).attributes
        assert "httponly" in attributes
        assert attributes["samesite"] == "lax"
        assert attributes["path"] == "/"
        assert "domain" not in attributes

    async def test_the_cookie_holds_nothing_but_an_id(self, browser: Browser, storage: SpyStorage) -> None:
        cookie = await given(browser)
        assert len(cookie.value) >= 43  # 256 bits, base64url
        assert await storage.delegate.info(cookie.value) is not None

    async def test_the_cookie_is_secure_over_https(self, browser: Browser) -> None:
        assert "secure" in (await given(browser.other(scheme="https"))).attributes

    async def test_the_cookie_works_over_http(self, browser: Browser) -> None:
        assert "secure" not in (await given(browser)).attributes

    async def test_the_cookie_is_as_set(self, storage: SpyStorage, gate: Gate) -> None:
        settings = {"path": "/put", "domain": "service.test", "same_site": "strict"}
        async with self.serving(
            storage, gate, cookie_name="__Secure-own", secure=True, ttl=60, **settings
        ) as browser:
            attributes = (await given(browser)).attributes
        assert "httponly" in attributes
        assert "secure" in attributes
        assert attributes["path"] == "/put"
        assert attributes["domain"] == "service.test"
        assert attributes["samesite"] == "strict"
        assert attributes["max-age"] == "60"

    async def test_the_cookie_may_be_partitioned(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, cookie_name="own", partitioned=True, secure=True) as browser:
            attributes = (await given(browser)).attributes
        assert "partitioned" in attributes
        assert "secure" in attributes

    @pytest.mark.parametrize("place", [0, 1, 2])
    async def test_of_several_cookies_the_live_one_is_used(
        self, browser: Browser, storage: SpyStorage, place: int
    ) -> None:
        id = await browser.begin(a=1)
        ids = [new_session_id(), "no id of ours"]
        ids.insert(place, id)
        several = with_several(browser, *ids)
        response = await several.get("/show")
        assert response.json() == {"a": "1"}
        assert several.cookie(response) is None
        await with_several(browser, *ids).post("/put", b=2)
        assert await browser.data() == {"a": "1", "b": "2"}
        assert len(await live(storage)) == 1

    async def test_of_several_live_sessions_the_newest_is_used(
        self, browser: Browser, clock: ManualClock
    ) -> None:
        old = await browser.begin(a="old")
        clock.advance(1)
        new = await browser.other().begin(a="new")
        for ids in ((old, new), (new, old)):
            assert await with_several(browser, *ids).data() == {"a": "new"}

    async def test_several_cookies_without_a_session_are_cleared(self, browser: Browser) -> None:
        several = with_several(browser, new_session_id(), new_session_id())
        cookie = several.cookie(await several.get("/show"))
        assert cookie is not None
        assert cookie.clears

    async def test_a_logout_ends_the_sessions_of_several_cookies(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        ids = [await browser.other().begin(a=number) for number in range(2)]
        await with_several(browser, *ids, new_session_id()).post("/logout")
        assert await live(storage) == []

    async def test_few_of_many_cookies_are_looked_up(self, browser: Browser, storage: SpyStorage) -> None:
        id = await browser.begin(a=1)
        storage.calls.clear()
        many = with_several(browser, *(new_session_id() for _ in range(50)), id)
        assert await many.data() == {"a": "1"}
        assert storage.calls.count("read") <= FEW
