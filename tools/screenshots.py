"""Makes the pictures of the documentation: ``python -m tools.screenshots``, with the extra dev and a Chromium.

The example service and the page for administrators in a browser, and the command in a terminal, each with a new database.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent.parent / "docs" / "images"
AGENTS = {
    "phone": "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1",
    "laptop": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
SIZE = {"width": 860, "height": 620}  # pixels
COLUMNS = 110  # of the terminal


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The address of an application that is served meanwhile."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


async def example(browser: Any, storage: Any) -> None:
    """The list of devices of the example service, with two of them."""
    from examples.fastapi_service.app import create_app

    async with serving(create_app(storage)) as address:
        for agent in AGENTS.values():
            context = await browser.new_context(user_agent=agent, viewport=SIZE)
            page = await context.new_page()
            await page.goto(f"{address}/login")
            await page.fill("#user", "ada")
            await page.click("button")
            await page.click("text=Count one more")
        await page.set_input_files("#file", __file__)
        await page.click("text=Upload >> nth=-1")
        await page.screenshot(path=IMAGES / "example.png", full_page=True)


async def administration(browser: Any, storage: Any) -> None:
    """A search on the page for administrators, and the statistics."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from sqlsessions.integrations.admin import AdminPage

    purging = storage.purging()
    for number in range(60):
        subject = f"user-{number % 7}" if number % 9 else None
        await storage.write_bytes(f"an id {number}", bytes(40 * number * number), subject=subject)
        await storage.write_bytes(f"expired {number}", b"", ttl=0.000001)
    await purging.once()
    app = Starlette(routes=[Mount("/", AdminPage(storage, purging=purging))])
    async with serving(app) as address:
        context = await browser.new_context(viewport=SIZE)
        page = await context.new_page()
        await page.goto(f"{address}/?q=user-3")
        await page.screenshot(path=IMAGES / "admin.png", full_page=True)
        await page.goto(f"{address}/?statistics")
        await page.screenshot(path=IMAGES / "statistics.png", full_page=True)


def printed(url: str, *command: str) -> str:
    """What a command prints on a terminal, as HTML."""
    from rich.console import Console
    from rich.text import Text

    colours = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "SQLSESSIONS_URL": url}
    program = [str(Path(sys.executable).with_name("sqlsessions")), *command]
    output = subprocess.run(program, env=colours, capture_output=True, text=True, check=False).stdout
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(f"$ sqlsessions {' '.join(command)}", style="bold")
    console.print(Text.from_ansi(output))
    html = console.export_html(inline_styles=True)
    return html.replace("<body>", '<body style="background:#fff; padding:12px">')


async def terminal(browser: Any, name: str, html: str) -> None:
    """A picture of what a command printed."""
    page = await browser.new_page(viewport={"width": 980, "height": 100})
    await page.set_content(html)
    await page.screenshot(path=IMAGES / f"{name}.png", full_page=True)


async def main() -> None:
    """Make all of them."""
    from playwright.async_api import async_playwright

    from sqlsessions import SqlSessionStorage, schema

    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/sessions.db"
        await schema.upgrade(url)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
            await example(browser, SqlSessionStorage(url))
            async with SqlSessionStorage(url) as storage:
                await administration(browser, storage)
            await terminal(browser, "list", printed(url, "list", "--subject", "user-3"))
            await terminal(browser, "doctor", printed(url, "doctor"))
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
