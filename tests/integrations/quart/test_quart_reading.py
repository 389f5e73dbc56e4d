"""Quart: sessions are read wherever they are accessed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from quart import render_template_string, request, session, stream_with_context
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage, UnsupportedOperation
from sqlsessions.integrations.quart import load
from sqlsessions.testing import SpyStorage

from .app import app_of, bring, id_of

pytestmark = pytest.mark.usefixtures("closed_in_background")


async def in_a_task() -> Any:
    async def look() -> Any:
        return session["a"]

    return await asyncio.create_task(look())


async def in_many_tasks() -> Any:
    async def look() -> Any:
        return session["a"]

    return "".join(set(await asyncio.gather(*[look() for _ in range(5)])))


async def in_a_thread() -> Any:
    return await asyncio.to_thread(lambda: session["a"])


async def in_a_stream() -> Any:
    @stream_with_context
    async def body() -> AsyncIterator[str]:
        yield session["a"]

    return body()


async def by_template() -> Any:
    return await render_template_string("{{ (session|tojson)[7:-2] }}")


async def as_json() -> Any:
    return session._get_current_object()  # type: ignore[attr-defined]  # a proxy is no dict


@pytest.mark.parametrize("place", [in_a_task, in_many_tasks, in_a_thread, in_a_stream, by_template])
async def test_anywhere(
    storage: SpyStorage, place: Any, lazy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    client = app_of(storage, place, lazy=lazy).test_client()
    await client.get("/put?a=1")
    for _ in range(2):
        response = await client.get(f"/{place.__name__}")
        assert (response.status_code, await response.get_data(as_text=True)) == (200, "1")
    blocks = lazy and place in (in_a_task, in_many_tasks, in_a_stream)
    assert caplog.text.count("await load()") == blocks


async def test_a_session_is_a_response(storage: SpyStorage) -> None:
    client = app_of(storage, as_json).test_client()
    await client.get("/put?a=1")
    assert await (await client.get("/as_json")).get_json() == {"a": "1"}


async def test_an_engine_of_the_callers_own_is_read_from_by_its_event_loop_only(url: str) -> None:
    async def first() -> Any:
        if "load" in request.args:
            await load()
        return await in_a_task()

    async with SqlSessionStorage(url) as own:
        client = app_of(own).test_client()
        await client.get("/put?a=1")
        id = id_of(client)
    assert id is not None
    engine = create_async_engine(url)
    app = app_of(SqlSessionStorage(engine), first)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    client = app.test_client()
    bring(client, id)
    with pytest.raises(UnsupportedOperation, match="await load"):
        await client.get("/first")
    assert await (await client.get("/show")).get_json() == {"a": "1"}
    assert (await client.get("/first?load=1")).status_code == 200
    await engine.dispose()
