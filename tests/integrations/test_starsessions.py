"""starsessions over our storages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import starsessions
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, load_session
from starsessions.session import get_session_id, regenerate_session_id

from sqlsessions import InvalidArgumentType, StorageUnavailable
from sqlsessions.integrations.starsessions import SessionMiddleware, StarsessionsStore
from sqlsessions.testing import ManualClock, SpyStorage

Endpoint = Callable[[Request], Awaitable[Response]]


async def show(request: Request) -> Response:
    return JSONResponse(dict(request.session))


async def put(request: Request) -> Response:
    request.session.update(request.query_params)
    return PlainTextResponse("put")


async def logout(request: Request) -> Response:
    request.session.clear()
    return PlainTextResponse("out")


async def regenerate(request: Request) -> Response:
    old = get_session_id(request)
    regenerate_session_id(request)
    await request.scope["session_handler"].store.remove(old)
    return PlainTextResponse("regenerated")


async def untouched(_request: Request) -> Response:
    return PlainTextResponse("untouched")


class Slow:
    """An endpoint that ends when told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def slow(self, request: Request) -> Response:
        request.session["late"] = True
        self.begun.set()
        await asyncio.wait_for(self.go_on.wait(), 10)
        return PlainTextResponse("slow")


def app_of(
    storage: Any, *more: Endpoint, autoload: bool = True, inside: tuple[Middleware, ...] = (), **options: Any
) -> Starlette:
    routes = [Route(f"/{each.__name__}", each) for each in (show, put, logout, regenerate, untouched, *more)]
    middleware = [Middleware(SessionMiddleware, store=StarsessionsStore(storage), **options), *inside]
    if autoload:
        middleware.append(Middleware(SessionAutoloadMiddleware))
    return Starlette(routes=routes, middleware=middleware)


def client_of(app: Starlette) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(app), base_url="https://service.test")


@pytest.fixture
async def client(storage: SpyStorage) -> AsyncIterator[AsyncClient]:
    async with client_of(app_of(storage)) as client:
        yield client


async def test_no_call_without_loading(storage: SpyStorage) -> None:
    async with client_of(app_of(storage, autoload=False)) as client:
        client.cookies.set("session", "a" * 32)
        assert (await client.get("/untouched")).is_success
        assert storage.calls == []


@pytest.mark.parametrize("rolling", [False, True])
async def test_a_lifetime(storage: SpyStorage, clock: ManualClock, rolling: bool) -> None:
    async with client_of(app_of(storage, lifetime=100, rolling=rolling)) as client:
        response = await client.get("/put?a=1")
        assert "max-age=100" in response.headers["set-cookie"] or not rolling
        id = client.cookies["session"]
        info = await storage.delegate.info(id)
        assert info is not None
        assert info.expires_at is not None
        assert 98 <= (info.expires_at.timestamp() - clock()) <= 100
        clock.advance(101)
        assert (await client.get("/show")).json() == {}


async def test_a_browser_session_has_the_storages_timeout(client: AsyncClient, storage: SpyStorage) -> None:
    response = await client.get("/put?a=1")
    assert "max-age" not in response.headers["set-cookie"]
    info = await storage.delegate.info(client.cookies["session"])
    assert info is not None
    assert info.expires_at is not None
    assert (info.expires_at - info.updated_at).days == 14


async def test_a_visitor_without_a_session_logs_in(storage: SpyStorage) -> None:
    async with client_of(app_of(storage)) as client:
        assert (await client.get("/regenerate")).is_success  # nothing was there to be removed
        await client.get("/put?user=ada")
        before = client.cookies["session"]
        assert (await client.get("/regenerate")).is_success
        assert client.cookies["session"] != before
        assert await storage.delegate.load(before) is None
        assert (await client.get("/show")).json() == {"user": "ada"}


async def test_at_least_a_second(storage: SpyStorage, clock: ManualClock) -> None:
    store = StarsessionsStore(storage)
    id = await store.write("a", b"data", lifetime=100, ttl=-5)
    assert await store.read(id, 100) == b"data"
    clock.advance(1)
    assert await store.read(id, 100) == b""


async def test_a_store_alone(storage: SpyStorage) -> None:
    store = StarsessionsStore(storage)
    id = await store.write("a", b"one", 0, 0)
    assert id != "a"
    assert await store.read("a", 0) == b""
    assert await store.write(id, b"two", 0, 0) == id
    assert await store.read(id, 0) == b"two"
    await store.remove(id)
    await store.remove(id)
    await store.remove("")
    assert await store.read(id, 0) == b""
    assert await store.read("", 0) == b""


async def test_parallel_writes_all_count(storage: SpyStorage) -> None:
    """Nobody is refused; what starsessions wrote last is what is there."""
    store = StarsessionsStore(storage)
    id = await store.write("a", b"start", 0, 0)

    async def request(number: int) -> None:
        assert await store.read(id, 0)
        assert await store.write(id, b"%d" % number, 0, 0) == id

    await asyncio.gather(*(request(number) for number in range(20)))
    assert int(await store.read(id, 0)) in range(20)


async def in_another_task(request: Request, call_next: Any) -> Response:
    """A function middleware, as of FastAPI's ``@app.middleware("http")``."""
    response: Response = await call_next(request)
    return response


async def test_loaded_in_another_task(storage: SpyStorage) -> None:
    async def visit(request: Request) -> Response:
        await load_session(request)
        request.session["visits"] = request.session.get("visits", 0) + 1
        return JSONResponse(dict(request.session))

    inside = (Middleware(BaseHTTPMiddleware, dispatch=in_another_task),)
    async with client_of(app_of(storage, visit, autoload=False, inside=inside)) as client:
        for visits in range(1, 4):
            assert (await client.get("/visit")).json() == {"visits": visits}


@pytest.mark.parametrize("path", ["show", "put?a=1"])
async def test_an_unavailable_storage(client: AsyncClient, storage: SpyStorage, path: str) -> None:
    await client.get("/put?a=1")
    storage.down = True
    with pytest.raises(StorageUnavailable):
        await client.get(f"/{path}")
    storage.down = False
    assert (await client.get("/show")).json() == {"a": "1"}


def test_not_a_storage() -> None:
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        StarsessionsStore({})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "middleware", [SessionMiddleware, starsessions.SessionMiddleware], ids=["ours", "theirs"]
)
async def test_an_id_that_was_not_issued_is_not_adopted_in_another_task(
    storage: SpyStorage, middleware: Any
) -> None:
    async def enter(request: Request) -> Response:
        await load_session(request)
        request.session["user"] = "alice"
        return PlainTextResponse("in")

    planted = "a" * 32
    app = Starlette(
        routes=[Route("/enter", enter)],
        middleware=[
            Middleware(middleware, store=StarsessionsStore(storage)),
            Middleware(BaseHTTPMiddleware, dispatch=in_another_task),
        ],
    )
    async with client_of(app) as client:
        client.cookies.set("session", planted, domain="service.test")
        response = await client.get("/enter")
        issued = response.cookies["session"]
        assert issued != planted
        assert await storage.delegate.info(planted) is None
        assert await storage.delegate.info(issued) is not None


async def test_a_slow_request_in_another_task_does_not_undo_a_logout(storage: SpyStorage) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def enter(request: Request) -> Response:
        await load_session(request)
        request.session["user"] = "alice"
        return PlainTextResponse("in")

    async def leave(request: Request) -> Response:
        await load_session(request)
        request.session.clear()
        return PlainTextResponse("out")

    async def slow(request: Request) -> Response:
        await load_session(request)
        request.session["late"] = True
        begun.set()
        async with asyncio.timeout(10):
            await go_on.wait()
        return PlainTextResponse("slow")

    app = Starlette(
        routes=[Route(f"/{each.__name__}", each) for each in (enter, leave, slow)],
        middleware=[
            Middleware(SessionMiddleware, store=StarsessionsStore(storage)),
            Middleware(BaseHTTPMiddleware, dispatch=in_another_task),
        ],
    )
    async with client_of(app) as client:
        await client.get("/enter")
        under_way = asyncio.create_task(client.get("/slow"))
        async with asyncio.timeout(10):
            await begun.wait()
        await client.get("/leave")
        go_on.set()
        await under_way
    assert [info async for info in storage.delegate.sessions()] == []
