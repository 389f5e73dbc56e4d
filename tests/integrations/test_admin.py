"""The page for administrators, by its requests and in a browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from httpx import ASGITransport, AsyncClient
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.routing import Mount

from sqlsessions import (
    CacheStorage,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionStorageMemory,
    SqlSessionStorage,
)
from sqlsessions.integrations.admin import AdminPage
from sqlsessions.sql.internals import internals_of
from sqlsessions.sql.purge_lease import purge_lease
from sqlsessions.testing import SpyStorage

from .test_browser import chromium, free_port

SAME = {"sec-fetch-site": "same-origin"}
EVIL = '<img src=x onerror="alert(1)">'
NARROW = 375  # pixels


def client_of(storage: ManagedSessionStorage) -> AsyncClient:
    app = Starlette(routes=[Mount("/admin", AdminPage(storage))])
    return AsyncClient(transport=ASGITransport(app), base_url="http://admin.test/admin/")


@pytest.fixture
async def storage() -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage("sqlite://") as storage:
        for number in range(3):
            await storage.write_bytes(f"ann's {number}", b"x" * 10**number, subject="ann")
        await storage.write_bytes("evil", b"", subject=EVIL)
        await storage.write_bytes("nobody's", b"")
        yield storage


async def key_of(storage: ManagedSessionStorage, id: str) -> str:
    info = await storage.info(id)
    assert info is not None
    return info.key


async def test_search_by_subject(storage: SqlSessionStorage) -> None:
    async with client_of(CacheStorage(storage)) as client:
        answer = await client.get("", params={"q": "ann"})
        assert answer.text.count("<li>") == 3
        assert "End all sessions of ann" in answer.text
        assert "By key" not in answer.text
        assert (await client.get("", params={"q": "n\0"})).text.count("<li>") == 0


@pytest.mark.parametrize("digits", [6, 63, 64])
async def test_search_by_key(storage: SqlSessionStorage, digits: int) -> None:
    key = await key_of(storage, "nobody's")
    async with client_of(storage) as client:
        answer = await client.get("", params={"q": key[:digits].upper()})
        assert re.findall(r'name="key" value="(\w+)"', answer.text) == [key]
        assert (await client.get("", params={"q": key[:5]})).text.count("<li>") == 0


async def test_what_others_chose_is_text(storage: SqlSessionStorage) -> None:
    async with client_of(storage) as client:
        for query in ({"q": EVIL}, {"statistics": ""}, {"q": '"><script>'}):
            text = (await client.get("", params=query)).text
            assert "<img" not in text
            assert "<script" not in text
        assert "&lt;img" in text or "&lt;script" in text


async def test_statistics_are_counted_when_asked_for(storage: SqlSessionStorage) -> None:
    async with client_of(storage) as client:
        assert "<svg" not in (await client.get("")).text
        text = (await client.get("", params={"statistics": ""})).text
    assert "live: 5, expired, not purged: 0" in text
    assert "ann: 3" in text
    async with client_of(SessionStorageMemory()) as client:
        assert "<svg" not in (await client.get("", params={"statistics": ""})).text


async def test_the_state_of_the_purge(storage: SqlSessionStorage) -> None:
    purging = storage.purging()
    await storage.write_bytes("expired", b"", ttl=0.000001)
    await purging.once()
    app = Starlette(routes=[Mount("/admin", AdminPage(CacheStorage(storage), purging=purging))])
    async with AsyncClient(transport=ASGITransport(app), base_url="http://admin.test/admin/") as client:
        text = (await client.get("", params={"statistics": ""})).text
        assert "No process is purging now" in text
        assert "Rounds of this process. rounds: 1, left to others: 0, failed: 0" in text
        assert "This process has purged 1 session and 0 chunks." in text
        async with purge_lease(internals_of(storage).database):
            text = (await client.get("", params={"statistics": ""})).text
            assert "A process is purging now" in text
    async with client_of(storage) as client:
        assert "Rounds of this process" not in (await client.get("", params={"statistics": ""})).text


async def test_end_one_and_all(storage: SqlSessionStorage) -> None:
    key = await key_of(storage, "ann's 1")
    async with client_of(storage) as client:
        answer = await client.post("", data={"key": key, "q": "ann"}, headers=SAME)
        assert (answer.status_code, answer.headers["location"]) == (303, "?q=ann&ended=1")
        assert await storage.info("ann's 1") is None
        page = await client.get(answer.headers["location"])
        assert "Ended 1 session." in page.text
        answer = await client.post("", data={"subject": "ann", "q": "ann"}, headers=SAME)
        assert answer.headers["location"] == "?q=ann&ended=2"
        assert [info async for info in storage.sessions("ann")] == []
        assert len([info async for info in storage.sessions()]) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "http://admin.test"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({}, 403),
        ({"origin": "http://admin.test"}, 303),
    ],
    ids=["cross-site", "same-site", "none", "other origin", "null", "neither", "same origin"],
)
async def test_forms_of_others_are_refused(
    storage: SqlSessionStorage, headers: dict[str, str], status: int
) -> None:
    async with client_of(storage) as client:
        answer = await client.post("", data={"subject": "ann"}, headers=headers)
    assert answer.status_code == status
    assert len([info async for info in storage.sessions("ann")]) == (3 if status == 403 else 0)


async def test_other_requests(storage: SqlSessionStorage) -> None:
    async with client_of(storage) as client:
        assert (await client.get("more")).status_code == 404
        assert (await client.put("")).status_code == 405
        assert (await client.post("", data={}, headers=SAME)).status_code == 400
        assert (await client.post("", data={"subject": "a\0"}, headers=SAME)).status_code == 400
        assert (await client.post("", data={"key": "x" * 20_000}, headers=SAME)).status_code == 413
        head = await client.head("")
        assert (head.status_code, head.content) == (200, b"")
        assert "script" not in head.headers["content-security-policy"]
        assert head.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert head.headers["cache-control"] == "no-store"


async def test_a_storage_that_is_away() -> None:
    storage = SpyStorage(SessionStorageMemory())
    storage.down = True
    async with client_of(storage) as client:
        answer = await client.get("", params={"q": "ann"})
    assert (answer.status_code, "The storage is unavailable." in answer.text) == (503, True)


def test_what_is_no_storage() -> None:
    with pytest.raises(InvalidArgumentType):
        AdminPage(1)  # type: ignore[arg-type]


@asynccontextmanager
async def served(storage: ManagedSessionStorage) -> AsyncIterator[str]:
    port = free_port()
    app = Starlette(routes=[Mount("/admin", AdminPage(storage))])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}/admin/"
    server.should_exit = True
    await task


async def focused(page: Page) -> str:
    name: str = await page.evaluate(
        "document.activeElement.ariaLabel || document.activeElement.textContent || document.activeElement.name"
    )
    return name


async def tab_to(page: Page, name: str) -> None:
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await focused(page) == name:
            outline: str = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"{name} does not show that it has the focus"
            return
    raise AssertionError(f"the key Tab does not lead to {name}")


@pytest.mark.parametrize(
    ("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")]
)
async def test_in_a_browser_by_the_keyboard(storage: SqlSessionStorage, scheme: Any, background: str) -> None:
    complaints: list[str] = []
    key = await key_of(storage, "ann's 2")  # the newest, which is listed first
    async with chromium() as context, served(storage) as address:
        page = await context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size({"width": NARROW, "height": 700})
        await page.goto(address)
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        await tab_to(page, "q")
        await page.keyboard.type("ann")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**q=ann")
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW
        await tab_to(page, f"End session {key[:12]}")
        await page.keyboard.press("Enter")
        await page.get_by_role("status").wait_for()
        assert await storage.info("ann's 2") is None
        await tab_to(page, "End all of them …")
        await page.keyboard.press("Enter")
        await tab_to(page, "End all sessions of ann")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**ended=2")
        assert [info async for info in storage.sessions("ann")] == []
        await page.goto(f"{address}?statistics")
        assert await page.get_by_role("img").count() == 3
        labels = "[...document.querySelectorAll('svg text')].map(each => each.getBBox().x)"
        assert min(await page.evaluate(labels)) >= 0
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW
    assert complaints == []


async def test_hostile_requests_are_refused(storage: SqlSessionStorage) -> None:
    many = "&".join(f"a{number}=1" for number in range(50))
    async with client_of(storage) as client:
        assert (await client.get("", params=many)).status_code == 200
        assert (await client.post("", content=many, headers=SAME)).status_code == 400
        assert (await client.post("", data={"q": "ann"}, headers={"origin": "http://["})).status_code == 403


async def test_a_form_that_was_cut_off_ends_nothing(storage: SqlSessionStorage) -> None:
    messages = iter(
        [
            {"type": "http.request", "body": b"action=revoke&subject=ann", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"sec-fetch-site", b"same-origin"), (b"host", b"admin.test")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
    }
    await AdminPage(storage)(scope, receive, send)
    assert sent[0]["status"] == 400
    assert len([info async for info in storage.sessions("ann")]) == 3
