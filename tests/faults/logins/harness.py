"""Runs browsers against the processes of a service, and counts what they lose."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from .browser import Browser, Losses

PROCESSES = 2
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def processes(framework: str, url: str) -> AsyncIterator[list[str]]:
    """The processes of the service over one database; gives the addresses of all workers."""
    command = [sys.executable, "-m", f"{__package__}.service", framework, url]
    running = [
        await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(PROCESSES)
    ]
    try:
        ports = []
        for process in running:
            assert process.stdout is not None
            ports += (await process.stdout.readline()).split()
        yield [f"http://127.0.0.1:{port.decode()}" for port in ports]
    finally:
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        await asyncio.gather(*(process.wait() for process in running))


def run(url: str, *, framework: str, logins: int, browsers: int, delay: float) -> Losses:
    """Have browsers log in and out; gives what they lost.

    Args:
        url: The database, with its tables.
        framework: One of `service.FRAMEWORKS`.
        logins: How many logins there are in all, and logouts.
        browsers: How many browsers there are at a time.
        delay: The longest delay of a request, and of a response, in seconds.
    """
    return asyncio.run(_run(url, framework, logins=logins, browsers=browsers, delay=delay))


async def _run(url: str, framework: str, *, logins: int, browsers: int, delay: float) -> Losses:
    losses = Losses()
    connector = TCPConnector(limit=0)
    async with (
        processes(framework, url) as workers,
        ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as http,
    ):
        shares = [logins // browsers + (number < logins % browsers) for number in range(browsers)]
        crowd = [Browser(http, workers, number, delay, losses) for number in range(browsers)]
        await asyncio.gather(*(browser.live(share) for browser, share in zip(crowd, shares, strict=True)))
    return losses
