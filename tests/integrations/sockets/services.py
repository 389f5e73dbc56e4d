"""A service in each framework that has WebSockets.

``/talk`` is a WebSocket that notes in its session what it heard, and fails if that is "fail"; ``/stream`` and
``/breaks`` are streams that note something once they began, and wait for ever or fail. ``/watch?code=1008`` is a
WebSocket that says "open" and repeats what it hears, ``/events`` a stream that says "open", and ``/poll`` a response
that never comes, all as long as their session lives. ``/ask`` is a WebSocket that does with its session what it is
told: "refresh", "save", "log in", or else it notes the word.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import litestar
import quart
import starlette.requests
import starlette.websockets
from aiohttp import web
from aiohttp_session import get_session
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from litestar import Litestar
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from sqlsessions import ManagedSessionStorage, SessionNotFound
from sqlsessions.integrations import aiohttp as by_aiohttp
from sqlsessions.integrations import fastapi as by_fastapi
from sqlsessions.integrations import litestar as by_litestar
from sqlsessions.integrations import quart as by_quart
from sqlsessions.integrations import starlette as by_starlette
from sqlsessions.integrations._web.alive import Alive

from .connections import AsgiClient, Client, aiohttp_client

Service = Callable[[ManagedSessionStorage], AbstractAsyncContextManager[Client]]


EVERY = 0.05  # seconds


class Broken(Exception):
    """The handler failed."""


async def talk(session: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[str], Any]) -> None:
    while True:
        word = await receive()
        session[word] = True
        if word == "fail":
            raise Broken
        await send(word)


async def body(session: Any, *, breaks: bool) -> AsyncIterator[str]:
    yield "begun"
    session["streamed"] = True
    yield "noted"
    if breaks:
        raise Broken
    await asyncio.Event().wait()


async def watch(block: Alive, receive: Callable[[], Awaitable[Any]], send: Callable[[str], Any]) -> None:
    async with block:
        await send("open")
        while True:
            await send(await receive())


async def events(block: Alive) -> AsyncIterator[str]:
    async with block:
        yield "open"
        await asyncio.Event().wait()


async def poll(block: Alive) -> str:
    try:
        async with block:
            await asyncio.Event().wait()
    except SessionNotFound:
        return "gone"
    return "left"


async def ask(
    session: Any,
    refresh: Callable[[], Awaitable[Any]],
    save: Callable[[], Awaitable[None]],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[str], Any],
) -> None:
    while True:
        match await receive():
            case "refresh":
                assert await refresh() is session
                await send(json.dumps([dict(session), session.subject, session.ended]))
            case "save":
                try:
                    await save()
                except SessionNotFound:
                    await send("not saved")
                else:
                    await send("saved")
            case "log in":
                session.subject = "8"
            case word:
                session[word] = True


@asynccontextmanager
async def starlette_(storage: ManagedSessionStorage) -> AsyncIterator[Client]:
    async def talking(socket: starlette.websockets.WebSocket) -> None:
        await socket.accept()
        await talk(socket.session, socket.receive_text, socket.send_text)

    async def stream(request: starlette.requests.Request) -> Any:
        session = await by_starlette.load(request)
        return StreamingResponse(body(session, breaks=request.url.path == "/breaks"))

    async def watching(socket: starlette.websockets.WebSocket) -> None:
        await socket.accept()
        block = by_starlette.alive(socket, every=EVERY, code=int(socket.query_params.get("code", 1008)))
        await watch(block, socket.receive_text, socket.send_text)

    async def eventful(request: starlette.requests.Request) -> Any:
        return StreamingResponse(events(by_starlette.alive(request, every=EVERY)))

    async def polling(request: starlette.requests.Request) -> Any:
        return PlainTextResponse(await poll(by_starlette.alive(request, every=EVERY)))

    async def asking(socket: starlette.websockets.WebSocket) -> None:
        await socket.accept()
        own = partial(by_starlette.refresh, socket), partial(by_starlette.save, socket)
        await ask(socket.session, *own, socket.receive_text, socket.send_text)

    routes = [
        WebSocketRoute("/talk", talking),
        Route("/stream", stream),
        Route("/breaks", stream),
        WebSocketRoute("/watch", watching),
        Route("/events", eventful),
        Route("/poll", polling),
        WebSocketRoute("/ask", asking),
    ]
    yield AsgiClient(
        Starlette(routes=routes, middleware=[Middleware(by_starlette.SessionMiddleware, storage=storage)])
    )


@asynccontextmanager
async def fastapi_(storage: ManagedSessionStorage) -> AsyncIterator[Client]:
    app = FastAPI()
    app.add_middleware(by_fastapi.SessionMiddleware, storage=storage)

    @app.websocket("/talk")
    async def talking(socket: WebSocket, session: by_fastapi.CurrentSession) -> None:
        await socket.accept()
        await talk(session, socket.receive_text, socket.send_text)

    @app.get("/stream")
    @app.get("/breaks")
    async def stream(request: Request, session: by_fastapi.CurrentSession) -> StreamingResponse:
        return StreamingResponse(body(session, breaks=request.url.path == "/breaks"))

    @app.websocket("/watch")
    async def watching(socket: WebSocket, code: int = 1008) -> None:
        await socket.accept()
        block = by_fastapi.alive(socket, every=EVERY, code=code)
        await watch(block, socket.receive_text, socket.send_text)

    @app.get("/events")
    async def eventful(request: Request) -> StreamingResponse:
        return StreamingResponse(events(by_fastapi.alive(request, every=EVERY)))

    @app.get("/poll")
    async def polling(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await poll(by_fastapi.alive(request, every=EVERY)))

    @app.websocket("/ask")
    async def asking(socket: WebSocket, session: by_fastapi.CurrentSession) -> None:
        await socket.accept()
        own = partial(by_fastapi.refresh, socket), partial(by_fastapi.save, socket)
        await ask(session, *own, socket.receive_text, socket.send_text)

    yield AsgiClient(app)


@asynccontextmanager
async def litestar_(storage: ManagedSessionStorage) -> AsyncIterator[Client]:
    @litestar.websocket("/talk")
    async def talking(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await talk(socket.session, socket.receive_text, socket.send_text)

    @litestar.get(["/stream", "/breaks"])
    async def stream(request: litestar.Request[Any, Any, Any]) -> Stream:
        session = await by_litestar.load(request)
        return Stream(body(session, breaks=request.url.path == "/breaks"))

    @litestar.websocket("/watch")
    async def watching(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        block = by_litestar.alive(socket, every=EVERY, code=int(socket.query_params.get("code", 1008)))
        await watch(block, socket.receive_text, socket.send_text)

    @litestar.get("/events")
    async def eventful(request: litestar.Request[Any, Any, Any]) -> Stream:
        return Stream(events(by_litestar.alive(request, every=EVERY)))

    @litestar.get("/poll", media_type="text/plain")
    async def polling(request: litestar.Request[Any, Any, Any]) -> str:
        return await poll(by_litestar.alive(request, every=EVERY))

    @litestar.websocket("/ask")
    async def asking(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        own = partial(by_litestar.refresh, socket), partial(by_litestar.save, socket)
        await ask(socket.session, *own, socket.receive_text, socket.send_text)

    config = by_litestar.SessionConfig(storage)
    handlers = [talking, stream, watching, eventful, polling, asking]
    yield AsgiClient(Litestar(handlers, middleware=[config.middleware], logging_config=None))


@asynccontextmanager
async def quart_(storage: ManagedSessionStorage) -> AsyncIterator[Client]:
    app = quart.Quart(__name__)
    by_quart.SqlSessionInterface(storage).init_app(app)

    @app.websocket("/talk")
    async def talking() -> None:
        await quart.websocket.accept()
        await talk(quart.session, quart.websocket.receive, quart.websocket.send)

    @app.get("/stream")
    @app.get("/breaks")
    async def stream() -> Any:
        session = await by_quart.load()
        return body(session, breaks=quart.request.path == "/breaks")

    @app.websocket("/watch")
    async def watching() -> None:
        await quart.websocket.accept()
        block = by_quart.alive(every=EVERY, code=int(quart.websocket.args.get("code", 1008)))
        await watch(block, quart.websocket.receive, quart.websocket.send)

    @app.get("/events")
    async def eventful() -> Any:
        return quart.stream_with_context(events)(by_quart.alive(every=EVERY))

    @app.get("/poll")
    async def polling() -> str:
        return await poll(by_quart.alive(every=EVERY))

    @app.websocket("/ask")
    async def asking() -> None:
        await quart.websocket.accept()
        session = await by_quart.load()
        await ask(session, by_quart.refresh, by_quart.save, quart.websocket.receive, quart.websocket.send)

    yield AsgiClient(app)


@asynccontextmanager
async def aiohttp_(storage: ManagedSessionStorage) -> AsyncIterator[Client]:
    async def talking(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await talk(session, socket.receive_str, socket.send_str)
        return socket

    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in body(session, breaks=request.path == "/breaks"):
            await response.write(piece.encode())
        return response

    async def watching(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        block = by_aiohttp.alive(request, every=EVERY, code=int(request.query.get("code", 1008)))
        await watch(block, socket.receive_str, socket.send_str)
        return socket

    async def eventful(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in events(by_aiohttp.alive(request, every=EVERY)):
            await response.write(piece.encode())
        return response

    async def polling(request: web.Request) -> web.Response:
        return web.Response(text=await poll(by_aiohttp.alive(request, every=EVERY)))

    async def asking(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        own = partial(by_aiohttp.refresh, request), partial(by_aiohttp.save, request)
        await ask(session, *own, socket.receive_str, socket.send_str)
        return socket

    app = web.Application()
    by_aiohttp.setup(app, by_aiohttp.AioHttpStorage(storage, cookie_name="session"))
    app.router.add_get("/talk", talking)
    app.router.add_get("/stream", stream)
    app.router.add_get("/breaks", stream)
    app.router.add_get("/watch", watching)
    app.router.add_get("/events", eventful)
    app.router.add_get("/poll", polling)
    app.router.add_get("/ask", asking)
    async with aiohttp_client(app) as client:
        yield client


SERVICES: dict[str, Service] = {
    "starlette": starlette_,
    "fastapi": fastapi_,
    "litestar": litestar_,
    "quart": quart_,
    "aiohttp": aiohttp_,
}
