"""What becomes of sessions, here and with other libraries: ``python -m benchmarks.comparing``.

The same small service over each library, in the way of its documentation, driven by the same requests. A library that
is not installed is left out. Prints a table.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from httpx import ASGITransport, AsyncBaseTransport, AsyncClient
from httpx import Response as HttpxResponse
from redis.asyncio import Redis

from .comparing_app import PREFIX, Gate
from .comparing_services import (
    cookies,
    django,
    fastapi_redis_sdk,
    flask_session,
    litestar,
    sqlsessions,
    sqlsessions_flask,
    sqlsessions_litestar,
    starsessions,
)
from .own_servers import Unavailable
from .scratch import address

LIBRARIES: dict[str, tuple[str, Callable[[Gate], AbstractAsyncContextManager[Any]]]] = {
    "sqlsessions": ("sqlsessions", sqlsessions),
    "Starlette's cookie": ("itsdangerous", cookies),
    "starsessions, Redis": ("starsessions", starsessions),
    "fastapi-redis-sdk": ("redis_fastapi", fastapi_redis_sdk),
    "Litestar, Redis": ("litestar", litestar),
    "Flask-Session, Redis": ("flask_session", flask_session),
    "Django's `db`, SQLite": ("django", django),
    "sqlsessions, Litestar": ("sqlsessions", sqlsessions_litestar),
    "sqlsessions, Flask": ("sqlsessions", sqlsessions_flask),
}


async def answered(response: HttpxResponse) -> None:
    """Take no error of a service for what it does with sessions."""
    if response.status_code >= 500:
        response.raise_for_status()


class Browsers:
    """Browsers of one service.

    Args:
        app: The service, an ASGI application, or what sends requests to it.
        stack: Closes the browsers.
    """

    def __init__(self, app: Any, stack: AsyncExitStack) -> None:
        self._transport = app if isinstance(app, AsyncBaseTransport) else ASGITransport(app)
        self._stack = stack

    async def open(self, cookies: dict[str, str] | None = None) -> AsyncClient:
        """A new browser."""
        client = AsyncClient(
            transport=self._transport,
            base_url="https://a.test",
            cookies=cookies,
            event_hooks={"response": [answered]},
        )
        return await self._stack.enter_async_context(client)


async def both_kept(browsers: Browsers, gate: Gate) -> bool:
    """Two requests at the same time, which change different keys."""
    browser = await browsers.open()
    await browser.get("/change?key=first")
    slow = asyncio.create_task(browser.get("/slow"))
    await gate.entered.wait()
    await browser.get("/change?key=early")
    gate.open.set()
    await slow
    return set((await browser.get("/show")).json()) == {"first", "early", "late"}


async def logout_final(browsers: Browsers, gate: Gate) -> bool:
    """A logout, while a slow request is under way; the browser takes the cookies of both responses."""
    browser = await browsers.open()
    await browser.get("/login")
    await browser.get("/change?key=first")
    before = dict(browser.cookies)
    slow = asyncio.create_task(browser.get("/slow"))
    await gate.entered.wait()
    await browser.get("/logout")
    gate.open.set()
    await slow
    thief = await browsers.open(before)
    return not {"first", "user"} & (
        set((await browser.get("/show")).json()) | set((await thief.get("/show")).json())
    )


async def logout_revokes(browsers: Browsers, _gate: Gate) -> bool:
    """A cookie that was stolen before the logout."""
    browser = await browsers.open()
    await browser.get("/login")
    await browser.get("/change?key=first")
    thief = await browsers.open(dict(browser.cookies))
    await browser.get("/logout")
    return "first" not in (await thief.get("/show")).json()


async def login_rotates(browsers: Browsers, _gate: Gate) -> bool:
    """An attacker knows the visitor's cookie from before the login."""
    browser = await browsers.open()
    await browser.get("/change?key=first")
    attacker = await browsers.open(dict(browser.cookies))
    await browser.get("/login")
    await browser.get("/change?key=private")
    return "private" not in (await attacker.get("/show")).json()


async def nested_noticed(browsers: Browsers, _gate: Gate) -> bool:
    """A change of a value within a value."""
    browser = await browsers.open()
    for _ in range(3):
        await browser.get("/nest")
    return bool((await browser.get("/show")).json()["nested"]["number"] == 3)


async def planted_refused(browsers: Browsers, _gate: Gate) -> bool:
    """An id of the right form that the service did not issue."""
    browser = await browsers.open()
    await browser.get("/change?key=first")
    name, value = next(iter(browser.cookies.items()))
    planted = value[:-4] + ("0000" if value[-4:] != "0000" else "1111")
    victim = await browsers.open({name: planted})
    await victim.get("/change?key=private")
    attacker = await browsers.open({name: planted})
    return "private" not in (await attacker.get("/show")).json()


SCENARIOS = {
    "Changes of different keys at the same time are both kept": both_kept,
    "A slow request does not bring a session back after the logout": logout_final,
    "A cookie from before the logout is worth nothing": logout_revokes,
    "A cookie from before the login does not see what comes after": login_rotates,
    "An id that the service did not issue is not adopted": planted_refused,
    "A change within a value is noticed": nested_noticed,
}


def lines_of_setup(service: Any) -> int:
    """The lines between the marks in a service, without blank ones: the middleware, a login and a logout."""
    source = inspect.getsource(service)
    return len(
        [
            line
            for line in source.partition("# setup\n")[2].partition("# end\n")[0].splitlines()
            if line.strip()
        ]
    )


async def tried(service: Callable[[Gate], AbstractAsyncContextManager[Any]]) -> list[str]:
    """Try each scenario with a service: its column of the table."""
    column = []
    for scenario in SCENARIOS.values():
        gate = Gate()
        async with service(gate) as app, AsyncExitStack() as stack:
            column.append("yes" if await scenario(Browsers(app, stack), gate) else "no")
    return [*column, str(lines_of_setup(service))]


async def main() -> None:
    """Try each library."""
    columns = {}
    for name, (module, service) in LIBRARIES.items():
        if importlib.util.find_spec(module) is None:
            continue
        try:
            columns[name] = await tried(service)
        except Unavailable as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    titles = [*SCENARIOS, "Lines for the middleware, a login and a logout"]
    for title, *row in zip(titles, *columns.values(), strict=True):
        print(f"| {title} | {' | '.join(row)} |")
    client: Any = Redis.from_url(address("redis"))
    if keys := [key async for key in client.scan_iter(match=f"{PREFIX}*", count=10_000)]:
        await client.delete(*keys)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
