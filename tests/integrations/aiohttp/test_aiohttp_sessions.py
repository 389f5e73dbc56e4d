"""aiohttp-session: what requests may rely on."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp_session import get_session

from sqlsessions.testing import ManualClock, SpyStorage

from .app import (
    Client,
    app_of,
    id_of,
    served,
)

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


async def test_without_an_age_the_browser_forgets_the_cookie(storage: SpyStorage) -> None:
    async with served(app_of(storage)) as client:
        assert "Max-Age" not in (await client.get("/put?a=1")).headers["Set-Cookie"]
    async with served(app_of(storage, ttl=100)) as client:
        response = await client.get("/fresh?a=1&age=none")
        assert "Max-Age" not in response.headers["Set-Cookie"]


async def test_a_session_says_its_age(storage: SpyStorage, clock: ManualClock) -> None:
    ages = []

    async def age(request: web.Request) -> web.Response:
        session = await get_session(request)
        ages.append((session.max_age, session.new, session.identity, session.created))
        session["a"] = 1
        return web.Response()

    async with served(app_of(storage, age, ttl=100)) as client:
        await client.get("/age")
        await client.get("/remember?age=500")
        started = int(clock())
        clock.advance(10)
        await client.get("/age")
        assert ages[0][:3] == (100, True, None)
        assert ages[1] == (500, False, id_of(client), started)


async def test_an_empty_new_session_ends_the_old(client: Client, storage: SpyStorage) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old
    response = await client.get("/fresh")
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    assert await storage.delegate.info(old) is None
