"""What becomes of changes: alone, at once, and where the handler ends with a redirect or an error."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ..spy import SpyStorage
from .base import Integration, held, secret
from .browser import ERROR, Browser
from .gate import Gate

MANY = 50  # requests at once
UNREADABLE = [b"\xff\xfe not text", b"[1]", b"{", b"", b'{"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}"]


class Changes(Integration):
    async def test_a_session_is_kept(self, browser: Browser) -> None:
        assert await browser.data() == {}
        await browser.post("/put", a=1)
        await browser.post("/put", b=2)
        assert await browser.data() == {"a": "1", "b": "2"}

    async def test_sessions_are_apart(self, browser: Browser) -> None:
        other = browser.other()
        await browser.post("/put", a=1)
        await other.post("/put", b=2)
        assert await browser.data() == {"a": "1"}
        assert await other.data() == {"b": "2"}

    async def test_a_nested_change_is_kept(self, browser: Browser) -> None:
        for _ in range(3):
            await browser.post("/nest")
        assert await browser.data() == {"list": [1, 1, 1]}

    async def test_two_requests_at_once_keep_both_changes(self, browser: Browser, gate: Gate) -> None:
        slow = browser.other(await browser.begin(a=1))
        async with held(gate, slow.held("/put", slow=1)) as responses:
            await browser.post("/put", fast=1)
        assert responses[0].status < ERROR
        assert await browser.data() == {"a": "1", "slow": "1", "fast": "1"}

    async def test_many_requests_that_saw_the_same_keep_all_changes(
        self, browser: Browser, gate: Gate
    ) -> None:
        id = await browser.begin(a=1)
        requests = [browser.other(id).held("/put", **{f"key{number}": 1}) for number in range(MANY)]
        async with held(gate, *requests) as responses:
            pass
        assert {response.status < ERROR for response in responses} == {True}
        assert await browser.data() == {"a": "1"} | {f"key{number}": "1" for number in range(MANY)}

    async def test_many_requests_in_any_order_keep_all_changes(self, browser: Browser) -> None:
        id = await browser.begin(a=1)
        requests = [browser.other(id).post("/put", **{f"key{number}": 1}) for number in range(MANY)]
        await asyncio.gather(*requests)
        assert await browser.data() == {"a": "1"} | {f"key{number}": "1" for number in range(MANY)}

    async def test_a_redirect_keeps_changes(self, browser: Browser) -> None:
        response = await browser.post("/leave", a=1)
        assert response.all("Location")
        assert await browser.data() == {"a": "1"}

    async def test_an_error_page_keeps_changes(self, browser: Browser) -> None:
        response = await browser.send("POST", "/refuse", a=1)
        assert response.status == 404
        assert await browser.data() == {"a": "1"}

    async def test_unreadable_data_is_no_session(
        self, browser: Browser, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        for data in UNREADABLE:
            id = await browser.other().begin(a=1)
            await storage.delegate.write_bytes(id, data)
            storage.calls.clear()
            caplog.clear()
            with secret(caplog, id, "not text"):
                assert await browser.other(id).data() == {}
            assert storage.writes == []
            assert logging.WARNING in {record.levelno for record in caplog.records}
            late = browser.other(id)
            await late.post("/put", b=2)
            assert late.has_id() != id
            assert await late.data() == {"b": "2"}
            assert await storage.delegate.read_bytes(id) == data

    async def test_the_cookie_of_unreadable_data_is_cleared(
        self, browser: Browser, storage: SpyStorage
    ) -> None:
        id = await browser.begin(a=1)
        await storage.delegate.write_bytes(id, b"\xff")
        cookie = browser.cookie(await browser.get("/show"))
        assert cookie is not None
        assert cookie.clears

    async def test_unreadable_data_belongs_to_no_user(self, browser: Browser, storage: SpyStorage) -> None:
        for data in UNREADABLE:
            user = browser.other()
            await user.post("/login", user="7", a=1)
            id = user.has_id()
            await storage.delegate.write_bytes(id, data)
            await user.post("/put", b=2)
            info = await storage.delegate.info(user.has_id())
            assert info is not None
            assert info.subject is None
            again = browser.other(id)
            await again.post("/login", user="7", c=3)
            assert again.has_id() != id
            assert await again.data() == {"c": "3"}

    async def test_data_that_became_unreadable_takes_no_change(
        self, browser: Browser, storage: SpyStorage, gate: Gate
    ) -> None:
        slow = browser.other(await browser.begin(a=1))
        id = slow.has_id()
        async with held(gate, slow.held("/put", b=2)):
            await storage.delegate.write_bytes(id, b"\xff")
        assert await storage.delegate.read_bytes(id) == b"\xff"
        assert await slow.data() == {}
