"""What becomes of sessions, here and with other libraries: ``python -m benchmarks.comparing``.

The same small service over each library, in the way of its documentation, driven by the same requests. A library that
is not installed is left out. Prints a table.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient
from litestar import Request as LitestarRequest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .scratch import address

PREFIX = f"bench{secrets.token_hex(4)}."


class Gate:
    """Where a slow request waits until others are done."""

    def __init__(self) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait, within a request."""
        self.entered.set()
        await asyncio.wait_for(self.open.wait(), 20)


def put(session: Any, key: str) -> None:
    """Set a key, as every service does it."""
    session[key] = 1


def routes(gate: Gate, login: Any, logout: Any) -> list[Route]:
    """The service, for what gives Starlette's ``request.session``."""

    async def change(request: Request) -> JSONResponse:
        put(request.session, request.query_params["key"])
        return JSONResponse(None)

    async def slow(request: Request) -> JSONResponse:
        request.session.get("first")
        await gate.wait()
        put(request.session, "late")
        return JSONResponse(None)

    async def nest(request: Request) -> JSONResponse:
        request.session.setdefault("nested", {"number": 0})["number"] += 1
        return JSONResponse(None)

    async def show(request: Request) -> JSONResponse:
        return JSONResponse({key: value for key, value in request.session.items() if key[:2] != "__"})

    return [Route(f"/{each.__name__}", each) for each in (change, slow, nest, show, login, logout)]


@asynccontextmanager
async def on_sqlite() -> AsyncIterator[str]:
    """The path of a new database."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "sessions.db")


@asynccontextmanager
async def sqlsessions(gate: Gate) -> AsyncIterator[Any]:
    """sqlsessions, in Starlette, on SQLite."""
    from sqlsessions import SqlSessionStorage, schema
    from sqlsessions.integrations.starlette import SessionMiddleware, current_session

    async with on_sqlite() as path:
        # setup
        url = f"sqlite:///{path}"
        await schema.upgrade(url)
        storage = SqlSessionStorage(url)
        middleware = [Middleware(SessionMiddleware, storage=storage)]

        async def login(request: Request) -> JSONResponse:
            current_session(request).subject = "ada"
            return JSONResponse(None)

        async def logout(request: Request) -> JSONResponse:
            current_session(request).invalidate()
            return JSONResponse(None)

        # end
        async with storage:
            yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def cookies(gate: Gate) -> AsyncIterator[Any]:
    """Starlette's own middleware, whose sessions are in the cookie."""
    from starlette.middleware.sessions import SessionMiddleware

    # setup
    middleware = [Middleware(SessionMiddleware, secret_key="a secret")]

    async def login(request: Request) -> JSONResponse:
        request.session["user"] = "ada"
        return JSONResponse(None)

    async def logout(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse(None)

    # end
    yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def starsessions(gate: Gate) -> AsyncIterator[Any]:
    """starsessions, on Redis."""
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.session import regenerate_session_id
    from starsessions.stores.redis import RedisStore

    # setup
    store = RedisStore(address("redis"), prefix=f"{PREFIX}star.")
    middleware = [
        Middleware(SessionMiddleware, store=store, lifetime=1000),
        Middleware(SessionAutoloadMiddleware),
    ]

    async def login(request: Request) -> JSONResponse:
        regenerate_session_id(request)
        request.session["user"] = "ada"
        return JSONResponse(None)

    async def logout(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse(None)

    # end
    yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def litestar(gate: Gate) -> AsyncIterator[Any]:
    """Litestar's own server-side sessions, on Redis."""
    from litestar import Litestar, get
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.redis import RedisStore

    @get("/change")
    async def change(request: LitestarRequest[Any, Any, Any]) -> None:
        put(request.session, request.query_params["key"])

    @get("/slow")
    async def slow(request: LitestarRequest[Any, Any, Any]) -> None:
        await gate.wait()
        put(request.session, "late")

    @get("/nest")
    async def nest(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session.setdefault("nested", {"number": 0})["number"] += 1

    @get("/show")
    async def show(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return dict(request.session)

    # setup
    store = RedisStore.with_client(address("redis"), namespace=f"{PREFIX}litestar")
    middleware = [ServerSideSessionConfig().middleware]

    @get("/login")
    async def login(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session["user"] = "ada"

    @get("/logout")
    async def logout(request: LitestarRequest[Any, Any, Any]) -> None:
        request.clear_session()

    # end
    handlers = [change, slow, nest, show, login, logout]
    app = Litestar(handlers, middleware=middleware, stores={"sessions": store}, logging_config=None)
    async with app.lifespan():
        yield app


LIBRARIES: dict[str, tuple[str, Callable[[Gate], AbstractAsyncContextManager[Any]]]] = {
    "sqlsessions": ("sqlsessions", sqlsessions),
    "Starlette's cookie": ("itsdangerous", cookies),
    "starsessions, Redis": ("starsessions", starsessions),
    "Litestar, Redis": ("litestar", litestar),
}


class Browsers:
    """Browsers of one service."""

    def __init__(self, app: Any, stack: AsyncExitStack) -> None:
        self._app, self._stack = app, stack

    async def open(self, cookies: dict[str, str] | None = None) -> AsyncClient:
        """A new browser."""
        client = AsyncClient(transport=ASGITransport(self._app), base_url="https://a.test", cookies=cookies)
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


async def main() -> None:
    """Try each scenario with each library."""
    found = {
        name: service for name, (module, service) in LIBRARIES.items() if importlib.util.find_spec(module)
    }
    print(f"| | {' | '.join(found)} |\n|{'---|' * (len(found) + 1)}")
    for title, scenario in SCENARIOS.items():
        row = []
        for service in found.values():
            gate = Gate()
            async with service(gate) as app, AsyncExitStack() as stack:
                row.append("yes" if await scenario(Browsers(app, stack), gate) else "no")
        print(f"| {title} | {' | '.join(row)} |", flush=True)
    print(
        f"| Lines for the middleware, a login and a logout | {' | '.join(str(lines_of_setup(s)) for s in found.values())} |"
    )
    client: Any = Redis.from_url(address("redis"))
    if keys := [key async for key in client.scan_iter(match=f"{PREFIX}*", count=10_000)]:
        await client.delete(*keys)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
