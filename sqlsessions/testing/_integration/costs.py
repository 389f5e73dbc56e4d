"""What requests ask of the storage, and what they say to caches."""

from __future__ import annotations

from ... import new_session_id
from ..spy import SpyStorage
from .base import Integration
from .browser import Browser

ABOUT_SESSIONS = {"set-cookie", "vary", "cache-control"}


class Costs(Integration):
    async def test_a_request_that_does_not_look_costs_nothing(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        known = await browser.begin(a=1)
        storage.calls.clear()
        for id in (known, None, new_session_id(), "short"):
            await browser.other(id).get("/untouched")
            assert storage.calls == []

    async def test_an_answer_without_a_look_has_no_header_of_sessions(self, browser: Browser) -> None:
        await browser.begin(a=1)
        assert not ABOUT_SESSIONS & (await browser.get("/untouched")).names()

    async def test_an_answer_without_a_look_or_a_session_has_no_header_of_sessions(
        self, browser: Browser
    ) -> None:
        for id in (None, new_session_id(), "short"):
            assert not ABOUT_SESSIONS & (await browser.other(id).get("/untouched")).names()

    async def test_a_look_without_a_cookie_costs_nothing(self, browser: Browser, storage: SpyStorage) -> None:
        response = await browser.get("/show")
        assert response.json() == {}
        assert storage.calls == []
        assert browser.cookie(response) is None

    async def test_a_logout_without_a_session_costs_nothing(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        response = await browser.post("/logout")
        assert storage.calls == []
        assert browser.cookie(response) is None

    async def test_a_request_that_reads_writes_nothing(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        storage.calls.clear()
        for _ in range(3):
            response = await browser.get("/show")
            assert response.json() == {"a": "1"}
            assert browser.cookie(response) is None
        assert storage.calls == ["read"] * 3

    async def test_an_equal_value_is_not_written(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        storage.calls.clear()
        await browser.post("/put", a=1)
        assert storage.writes == []

    async def test_an_equal_value_costs_one_read(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        storage.calls.clear()
        response = await browser.post("/put", a=1)
        assert storage.calls == ["read"]
        assert browser.cookie(response) is None

    async def test_a_session_begins_with_one_write(self, browser: Browser, storage: SpyStorage) -> None:
        await browser.begin(a=1)
        assert storage.calls == ["write"]

    async def test_a_change_costs_one_read_and_one_write(self, browser: Browser, storage: SpyStorage) -> None:
        id = await browser.begin(a=1)
        storage.calls.clear()
        await browser.post("/put", b=2)
        assert storage.calls == ["read", "write"]
        assert browser.id == id
        assert await browser.data() == {"a": "1", "b": "2"}

    async def test_a_nested_change_costs_one_read_and_one_write(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        await browser.post("/nest")
        storage.calls.clear()
        await browser.post("/nest")
        assert storage.calls == ["read", "write"]

    async def test_answers_vary_with_the_cookie(self, browser: Browser) -> None:
        for response in (
            await browser.get("/show"),
            await browser.post("/put", a=1),
            await browser.get("/show"),
        ):
            varies = [name.strip().lower() for value in response.all("Vary") for name in value.split(",")]
            assert varies.count("cookie") == 1

    async def test_shared_caches_keep_no_answer(self, browser: Browser) -> None:
        assert (await browser.get("/show")).all("Cache-Control") == ["private"]
        assert (await browser.post("/put", a=1)).all("Cache-Control") == ["no-store"]
        assert (await browser.get("/show")).all("Cache-Control") == ["private"]
