"""The session cookie."""

from __future__ import annotations

from ..spy import SpyStorage
from .base import Integration
from .browser import Browser, SetCookie
from .gate import Gate


async def given(browser: Browser) -> SetCookie:
    """The cookie of a new session."""
    cookie = browser.cookie(await browser.post("/put", a=1))
    assert cookie is not None
    return cookie


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
            storage, gate, cookie_name="__Secure-own", secure=True, max_age=60, **settings
        ) as browser:
            attributes = (await given(browser)).attributes
        assert "httponly" in attributes
        assert "secure" in attributes
        assert attributes["path"] == "/put"
        assert attributes["domain"] == "service.test"
        assert attributes["samesite"] == "strict"
        assert attributes["max-age"] == "60"

    async def test_the_cookie_may_be_partitioned(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, partitioned=True, secure=True) as browser:
            attributes = (await given(browser)).attributes
        assert "partitioned" in attributes
        assert "secure" in attributes
