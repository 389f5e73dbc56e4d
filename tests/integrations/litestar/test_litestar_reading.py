"""Litestar: sessions are read wherever they are accessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import MediaType, get
from litestar.background_tasks import BackgroundTask
from litestar.response import Response, ServerSentEvent, Stream
from litestar.testing import AsyncTestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from sqlsessions.testing import SpyStorage

from .app import Req, app_over

pytestmark = pytest.mark.usefixtures("closed_in_background")


def in_a_task(app: ASGIApp) -> ASGIApp:
    """A middleware that runs the rest in a task."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]

    return serve


@get("/whole")
async def whole(request: Req) -> dict[str, Any]:
    return request.session


@get("/messagepack", media_type=MediaType.MESSAGEPACK)
async def messagepack(request: Req) -> dict[str, Any]:
    return request.session


@get("/task")
async def task(request: Req) -> Any:
    async def look() -> Any:
        return request.session["a"]

    return [await asyncio.create_task(look())]


@get("/stream")
async def stream(request: Req) -> Stream:
    async def body() -> AsyncIterator[str]:
        yield str(request.session["a"])

    return Stream(body())


@get("/events")
async def events(request: Req) -> ServerSentEvent:
    async def body() -> AsyncIterator[str]:
        yield str(request.session["a"])

    return ServerSentEvent(body())


@get("/thread", sync_to_thread=True)
def thread(request: Req) -> Any:
    return request.session


@get("/behind", middleware=[in_a_task])
async def behind(request: Req) -> Any:
    return request.session


@pytest.mark.parametrize("eager", [False, None, True])
async def test_anywhere(storage: SpyStorage, eager: bool | None) -> None:
    seen: list[Any] = []

    @get("/background")
    async def background(request: Req) -> Response[None]:
        async def look() -> None:
            seen.append(request.session["a"])

        return Response(None, background=BackgroundTask(look))

    app = app_over(storage, whole, messagepack, task, stream, events, thread, behind, background, eager=eager)
    async with AsyncTestClient(app) as client:
        await client.post("/write", json={"a": 1})
        for path in ("/whole", "/thread", "/behind"):
            assert (await client.get(path)).json() == {"a": 1}, path
        assert (await client.get("/messagepack")).content == b"\x81\xa1a\x01"
        assert (await client.get("/task")).json() == [1]
        assert (await client.get("/stream")).text == "1"
        assert (await client.get("/events")).text == "data: 1\r\n\r\n"
        await client.get("/background")
        assert seen == [1]
