"""A real browser against a real server: Chromium, if it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("SQLSESSIONS_REQUIRE_SERVICES") == "1"
# What a browser of its own accord looks up on the network, it need not here.
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@asynccontextmanager
async def service(url: str, port: int) -> AsyncIterator[str]:
    """The example, in a process of its own; gives its address."""
    environment = os.environ | {"SQLSESSIONS_URL": url, "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.starlette_service", cwd=ROOT, env=environment
    )
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def chromium() -> AsyncIterator[BrowserContext]:
    if CHROMIUM is None:
        (pytest.fail if REQUIRED else pytest.skip)("there is no Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield await browser.new_context()
        await browser.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def second_port() -> int:
    return free_port()


async def log_in(page: Page, address: str, *, remember: bool = False) -> None:
    await page.goto(address)
    await page.get_by_label("Name").fill("ann")
    if remember:
        await page.get_by_label("Remember me").check()
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("heading", name="Notes of ann").wait_for()


async def keep(page: Page, title: str) -> None:
    await page.get_by_label("Title").fill(title)
    await page.get_by_label("Text").fill("text")
    await page.get_by_role("button", name="Keep").click()


async def cookie(context: BrowserContext) -> Any:
    [found] = await context.cookies()
    return found


async def test_a_session_in_a_browser(url: str, port: int) -> None:
    async with asyncio.timeout(100), chromium() as context:
        async with service(url, port) as address:
            one = await context.new_page()
            await log_in(one, address, remember=True)
            flags = await cookie(context)
            assert flags["httpOnly"]
            assert flags["sameSite"] == "Lax"
            assert not flags["secure"]
            assert flags["path"] == "/"
            assert abs(flags["expires"] - time.time() - 30 * 24 * 3600) < 3600
            assert await one.evaluate("document.cookie") == ""
        async with service(url, port) as address:  # started again, it still knows the session
            await one.goto(address)
            assert await one.get_by_role("heading").first.inner_text() == "Notes of ann"
            two = await context.new_page()
            await two.goto(address)
            async with asyncio.TaskGroup() as tabs:
                tabs.create_task(keep(one, "first"))
                tabs.create_task(keep(two, "second"))
            await two.wait_for_load_state()
            await one.goto(address)
            notes = await one.locator("#notes li").all_inner_texts()
            assert sorted(notes) == ["first: text", "second: text"]
            await one.get_by_role("button", name="Log out").click()
            await one.get_by_role("heading", name="Log in").wait_for()
            await two.get_by_role(
                "heading", name="Log in"
            ).wait_for()  # its socket ended, so it reloads itself
            assert await context.cookies() == []


async def open_socket(page: Page, address: str) -> asyncio.Task[Any]:
    """Open a WebSocket in a tab; gives the task that waits for the code with which it is closed."""
    await page.goto(f"{address}/nothing")  # a page without a socket of its own, which would reload it
    script = """() => new Promise((resolve, reject) => {
        const socket = new WebSocket(location.origin.replace("http", "ws") + "/live")
        window.closeCode = new Promise((closed) => { socket.onclose = (event) => closed(event.code) })
        socket.onopen = resolve
        socket.onerror = reject
    })"""
    await page.evaluate(script)
    return asyncio.create_task(page.evaluate("() => window.closeCode"))


async def test_a_logout_closes_the_sockets_of_other_tabs(url: str, port: int) -> None:
    async with asyncio.timeout(100), chromium() as context, service(url, port) as address:
        one, two, three = [await context.new_page() for _ in range(3)]
        await log_in(one, address)
        async with three.expect_websocket():
            await three.goto(address)
        closed = await open_socket(two, address)
        await asyncio.sleep(0.2)
        assert not closed.done()
        async with asyncio.timeout(5):  # in the same process it is noticed at once
            await one.get_by_role("button", name="Log out").click()
            assert await closed == 1008
            await three.get_by_role("heading", name="Log in").wait_for()  # without a click there


async def test_a_logout_in_another_process_closes_sockets(url: str, port: int, second_port: int) -> None:
    async with (
        asyncio.timeout(100),
        chromium() as context,
        service(url, port) as address,
        service(url, second_port) as other,
    ):
        one, two = [await context.new_page() for _ in range(2)]
        await log_in(one, address)
        closed = await open_socket(two, address)
        await one.goto(other)
        await one.get_by_role("button", name="Log out").click()
        async with asyncio.timeout(20):  # 15 seconds between two questions
            assert await closed == 1008


async def test_a_session_until_the_browser_is_closed(url: str, port: int) -> None:
    async with asyncio.timeout(100), chromium() as context, service(url, port) as address:
        page = await context.new_page()
        await log_in(page, address)
        assert (await cookie(context))["expires"] == -1
        assert await page.locator("#sessions li").count() == 1
