"""An unavailable storage, and event loops."""

from __future__ import annotations

import asyncio

import pytest

from ..spy import SpyStorage
from .base import Integration, held, secret
from .browser import Browser
from .gate import Gate
from .http import HttpResponse


def refused(browser: Browser, response: HttpResponse) -> bool:
    """Whether a response says that the storage is unavailable, and nothing of the session."""
    retries = response.all("Retry-After")
    return (
        response.status == 503
        and [retry.isdigit() for retry in retries] == [True]
        and browser.cookie(response) is None
    )


class Failures(Integration):
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/show"),
            ("POST", "/put"),
            ("POST", "/replace"),
            ("POST", "/regenerate"),
            ("POST", "/logout"),
        ],
    )
    async def test_an_unavailable_storage_is_a_503(
        self, browser: Browser, storage: SpyStorage, caplog: pytest.LogCaptureFixture, method: str, path: str
    ) -> None:
        id = await browser.begin(a=1)
        storage.down = True
        with secret(caplog, id):
            assert refused(browser, await browser.send(method, path, b=1))
        storage.down = False
        assert await browser.data() == {"a": "1"}
        assert browser.id == id

    async def test_a_new_session_in_an_unavailable_storage_is_a_503(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        storage.down = True
        assert refused(browser, await browser.send("POST", "/put", a=1))

    async def test_a_write_that_fails_is_a_503(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        await browser.begin(a=1)
        async with held(gate, browser.held("/leave", b=2)) as responses:
            storage.down = True
        assert refused(browser, responses[0])
        assert not responses[0].all("Location")

    async def test_an_unavailable_storage_sets_no_cookie_and_loses_nothing(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        id = await browser.begin(a=1)
        storage.down = True
        for path in ("/put", "/logout"):
            try:
                response = await browser.send("POST", path, b=1)
            except Exception:  # noqa: BLE001, S112 (the server's to answer)
                continue
            assert response.status >= 500
            assert browser.cookie(response) is None
        storage.down = False
        assert await browser.data() == {"a": "1"}
        assert browser.id == id

    async def test_a_request_that_does_not_look_needs_no_storage(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        await browser.begin(a=1)
        storage.down = True
        await browser.get("/untouched")

    async def test_event_loops_one_after_the_other(self, storage: SpyStorage) -> None:
        ids: list[str] = []

        async def visit() -> None:
            async with self.serving(storage, Gate()) as browser:
                browser.id = ids[0] if ids else None
                await browser.post("/put", **{f"key{len(ids)}": 1})
                ids.append(browser.has_id())
                assert len(await browser.data()) == len(ids)

        for _ in range(3):
            await asyncio.to_thread(asyncio.run, visit())
