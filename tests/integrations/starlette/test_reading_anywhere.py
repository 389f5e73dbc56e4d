"""Starlette and FastAPI: no structure of an application decides whether its sessions can be read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sqlsessions import SqlSessionStorage, StorageUnavailable, UnsupportedOperation
from sqlsessions.integrations.starlette import Session, SessionMiddleware
from sqlsessions.testing import SpyStorage

from .app import app_of, client_of, put, show

pytestmark = pytest.mark.usefixtures("closed_in_background")


async def pass_on(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


PASSING_ON = Middleware(BaseHTTPMiddleware, dispatch=pass_on)


def hidden(app: ASGIApp) -> ASGIApp:
    """A middleware that is a function, which hides what it wraps."""
    inner = BaseHTTPMiddleware(app, dispatch=pass_on)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    return serve


def in_a_mounted_application(storage: SpyStorage) -> Any:
    inner = Starlette(routes=[Route("/show", show)], middleware=[PASSING_ON])
    session = Middleware(SessionMiddleware, storage=storage)
    return Starlette(routes=[Route("/put", put), Mount("/in", app=inner)], middleware=[session])


def in_a_mount(storage: SpyStorage) -> Any:
    inner = Mount("/in", routes=[Route("/show", show)], middleware=[PASSING_ON])
    session = Middleware(SessionMiddleware, storage=storage)
    return Starlette(routes=[Route("/put", put), inner], middleware=[session])


def in_a_route(storage: SpyStorage) -> Any:
    inner = Route("/in/show", show, middleware=[PASSING_ON])
    session = Middleware(SessionMiddleware, storage=storage)
    return Starlette(routes=[Route("/put", put), inner], middleware=[session])


def behind_a_function(storage: SpyStorage) -> Any:
    session = Middleware(SessionMiddleware, storage=storage)
    routes = [Route("/put", put), Route("/in/show", show)]
    return Starlette(routes=routes, middleware=[session, Middleware(hidden)])


def in_a_mounted_fastapi(storage: SpyStorage) -> Any:
    inner = FastAPI()
    inner.middleware("http")(pass_on)
    inner.get("/show")(fastapi_show)
    app = FastAPI()
    app.add_middleware(SessionMiddleware, storage=storage)
    app.add_route("/put", put)
    app.mount("/in", inner)
    return app


def behind_a_function_of_fastapi(storage: SpyStorage) -> Any:
    router = APIRouter(prefix="/in")
    router.get("/show")(fastapi_show)
    app = FastAPI()
    app.middleware("http")(pass_on)
    app.add_middleware(hidden)
    app.add_middleware(SessionMiddleware, storage=storage)
    app.add_route("/put", put)
    app.include_router(router)
    return app


async def fastapi_show(request: Request) -> Any:
    return request.session


@pytest.mark.parametrize(
    "structure",
    [
        in_a_mounted_application,
        in_a_mount,
        in_a_route,
        behind_a_function,
        in_a_mounted_fastapi,
        behind_a_function_of_fastapi,
    ],
)
async def test_behind_a_middleware_that_runs_the_rest_in_a_task(
    storage: SpyStorage, structure: Callable[[SpyStorage], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(structure(storage)) as client:
        assert (await client.get("/in/show")).json() == {}
        await client.get("/put?a=1")
        for _ in range(3):
            assert (await client.get("/in/show")).json() == {"a": "1"}
    warnings = [record.getMessage() for record in caplog.records if record.name == "sqlsessions"]
    assert len(warnings) == 1
    assert "eager=True" in warnings[0]


async def by_create_task(read: Callable[[], Any]) -> Any:
    async def reading() -> Any:
        return read()

    return await asyncio.create_task(reading())


async def by_gather(read: Callable[[], Any]) -> Any:
    async def reading() -> Any:
        await asyncio.sleep(0)
        return read()

    return (await asyncio.gather(*[reading() for _ in range(5)]))[-1]


async def by_callback(read: Callable[[], Any]) -> Any:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: future.set_result(read()))
    return await future


async def by_thread(read: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(read)


async def by_thread_that_the_event_loop_waits_for(read: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor() as threads:
        return threads.submit(read).result()


async def by_thread_with_an_event_loop(read: Callable[[], Any]) -> Any:
    async def reading() -> Any:
        return read()

    return await asyncio.to_thread(lambda: asyncio.run(reading()))


WAYS = [
    by_create_task,
    by_gather,
    by_callback,
    by_thread,
    by_thread_that_the_event_loop_waits_for,
    by_thread_with_an_event_loop,
]


async def test_in_an_application_that_is_no_coroutine_function(
    storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    def application(scope: Scope, receive: Receive, send: Send) -> Any:
        seen = JSONResponse(scope["session"].get("a"))  # before anything is awaited
        if scope["path"] == "/put":
            scope["session"]["a"] = "1"
        return asyncio.ensure_future(seen(scope, receive, send))

    async with client_of(SessionMiddleware(application, storage)) as client:  # type: ignore[arg-type]
        assert (await client.get("/put")).json() is None
        assert (await client.get("/show")).json() == "1"
    assert not caplog.messages


@pytest.mark.parametrize("way", WAYS)
async def test_in_what_the_application_starts(storage: SpyStorage, way: Callable[..., Any]) -> None:
    async def elsewhere(request: Request) -> Response:
        seen = await way(lambda: request.session.get("a"))
        request.session["seen"] = seen
        return JSONResponse(request.session)

    async with client_of(app_of(storage, elsewhere)) as client:
        assert (await client.get("/elsewhere")).json() == {"seen": None}
        client.cookies.clear()
        await client.get("/put?a=1")
        assert (await client.get("/elsewhere")).json() == {"a": "1", "seen": "1"}
        assert (await client.get("/show")).json() == {"a": "1", "seen": "1"}


async def test_an_unavailable_storage_is_a_503_there_too(storage: SpyStorage) -> None:
    async def elsewhere(request: Request) -> Response:
        return JSONResponse(await by_create_task(lambda: request.session["a"]))

    async with client_of(app_of(storage, elsewhere)) as client:
        await client.get("/put?a=1")
        storage.down = True
        assert (await client.get("/elsewhere")).status_code == 503


async def test_in_the_body_of_a_stream(storage: SpyStorage) -> None:
    async def streamed(request: Request) -> Response:
        async def body() -> AsyncIterator[str]:
            yield "a"
            yield request.session["a"]

        return StreamingResponse(body())

    async with client_of(app_of(storage, streamed)) as client:
        await client.get("/put?a=1")
        assert (await client.get("/streamed")).text == "a1"


@pytest.mark.parametrize("pure", [True, False])
async def test_error_handlers_see_the_session(storage: SpyStorage, pure: bool) -> None:
    async def failing(_request: Request) -> Response:
        raise ZeroDivisionError

    async def on_error(request: Request, _error: Exception) -> Response:
        return JSONResponse(request.session, status_code=500)

    app = Starlette(
        routes=[Route("/put", put), Route("/failing", failing)],
        middleware=[PASSING_ON] * (not pure) + [Middleware(SessionMiddleware, storage=storage)],
        exception_handlers={Exception: on_error},
    )
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="https://service.test") as client:
        await client.get("/put?a=1")
        response = await client.get("/failing")
        assert response.status_code == 500
        assert response.json() == {"a": "1"}


async def test_outer_middlewares_and_background_tasks_see_the_session(storage: SpyStorage) -> None:
    seen: list[Any] = []

    def watching(app: ASGIApp) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            seen.append(scope["session"].get("a"))

        return serve

    async def background(request: Request) -> Response:
        def later() -> None:
            seen.append(request.session.get("a"))

        async def later_too() -> None:
            seen.append(request.session.get("a"))

        return PlainTextResponse(
            "", background=BackgroundTask(later if "plain" in request.query_params else later_too)
        )

    async def untouched(_request: Request) -> Response:
        return PlainTextResponse("")

    async with client_of(watching(app_of(storage, background, untouched))) as client:  # type: ignore[arg-type]
        await client.get("/put?a=1")
        seen.clear()
        await client.get("/untouched")
        assert seen == ["1"]
        await client.get("/background")
        await client.get("/background?plain=1")
        assert seen == ["1"] * 5


async def test_after_its_request_an_unread_session_is_an_error_and_a_read_one_stays(
    storage: SpyStorage,
) -> None:
    kept: list[Session] = []

    async def keep(request: Request) -> Response:
        session: Any = request.scope["session"]
        if "read" in request.query_params:
            session.ensure_loaded()
        kept.append(session)
        return PlainTextResponse("kept")

    async with client_of(app_of(storage, keep)) as client:
        await client.get("/put?a=1")
        await by_task(client.get("/keep"))
        await by_task(client.get("/keep?read=1"))
    unread, read = kept
    assert dict(read) == {"a": "1"}
    for look in (lambda: unread["a"], lambda: dict(unread), lambda: unread.info, lambda: bool(unread)):
        with pytest.raises(RuntimeError, match="over"):
            look()
        with pytest.raises(RuntimeError, match="over"):
            await asyncio.to_thread(look)


async def by_task(request: Any) -> Any:
    return await asyncio.create_task(request)


@pytest.mark.parametrize("read_before", [False, True])
async def test_an_engine_of_the_callers_own_is_read_from_by_its_event_loop_only(
    url: str, read_before: bool
) -> None:
    async def elsewhere(request: Request) -> Response:
        return JSONResponse(await by_create_task(lambda: request.session["a"]))

    cookies = {}
    async with SqlSessionStorage(url) as own, client_of(app_of(own)) as client:
        await client.get("/put?a=1")
        cookies = dict(client.cookies)
    engine = create_async_engine(url)
    storage = SqlSessionStorage(engine)
    async with client_of(app_of(storage, elsewhere)) as client:
        client.cookies.update(cookies)
        if read_before:
            assert (await client.get("/show")).json() == {"a": "1"}
        with pytest.raises(UnsupportedOperation, match="eager=True"):
            await client.get("/elsewhere")
        assert (await client.get("/show")).json() == {"a": "1"}
    async with client_of(app_of(storage, elsewhere, eager=True)) as client:
        client.cookies.update(cookies)
        assert (await client.get("/elsewhere")).json() == "1"
    await storage.aclose()
    await engine.dispose()


async def test_a_storage_that_never_answers_there_does_not_hang(
    storage: SpyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlsessions.integrations._web.blocking.TIMEOUT", 0.05)
    load, main = storage.load, threading.current_thread()

    async def stuck(id: str) -> Any:
        if threading.current_thread() is not main:
            await asyncio.Event().wait()
        return await load(id)

    async def elsewhere(request: Request) -> Response:
        return JSONResponse(await by_create_task(lambda: request.session["a"]))

    storage.load = stuck  # type: ignore[method-assign]
    async with client_of(app_of(storage, elsewhere, unavailable="raise")) as client:
        await client.get("/put?a=1")
        with pytest.raises(StorageUnavailable, match="eager=True"):
            await client.get("/elsewhere")
