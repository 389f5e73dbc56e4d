"""aiohttp-session: expiry, errors, and what else may happen."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp_session
import pytest
from aiohttp import WSMsgType, web
from aiohttp_session import get_session

from sqlsessions import InvalidArgument, InvalidArgumentType, UnsupportedOperation
from sqlsessions.integrations.aiohttp import AioHttpStorage, save, setup
from sqlsessions.testing import SpyStorage

from .app import (
    Client,
    app_of,
    bring,
    id_of,
    served,
    shown,
)

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


async def test_an_unavailable_storage_raises(storage: SpyStorage) -> None:
    async with served(app_of(storage, unavailable="raise")) as client:
        await client.get("/put?a=1")
        storage.down = True
        assert (await client.get("/show")).status == 500


async def test_an_encoder_and_ids_of_ones_own(storage: SpyStorage) -> None:
    numbers = iter(range(100))
    options: dict[str, Any] = {
        "key_factory": lambda: f"number {next(numbers)}".replace(" ", "-"),
        "encoder": lambda data: json.dumps(data)[::-1],
        "decoder": lambda text: json.loads(text[::-1]),
    }
    async with served(app_of(storage, **options)) as client:
        await client.get("/put?a=1")
        assert id_of(client) == "number-0"
        assert await storage.delegate.read_bytes("number-0") == b'}"1" :"a"{'
        assert await shown(client) == {"a": "1"}
        await client.get("/login?user=ada")
        assert id_of(client) == "number-1"
        bring(client, "x" * 5000)
        assert await shown(client) == {}


async def test_a_websocket_saves(storage: SpyStorage) -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["talks"] = session.get("talks", 0) + 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            session[message.data] = True
            await save(request)
            await socket.send_str("saved")
        session["closed"] = True
        return socket

    async with served(app_of(storage, talk, install=setup)) as client:
        async with client.ws_connect("/talk") as socket:  # whose answer brings the cookie
            await socket.send_str("word")
            assert (await socket.receive(10)).type is WSMsgType.TEXT
            assert await shown(client) == {"talks": 1, "word": True}
        async with asyncio.timeout(10):
            while "closed" not in await shown(client):
                await asyncio.sleep(0)


async def test_a_stream_saves(storage: SpyStorage) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["before"] = True
        response = web.StreamResponse()
        await response.prepare(request)
        session["after"] = True
        await response.write(b"streamed")
        return response

    async with served(app_of(storage, stream, install=setup)) as client:
        assert await (await client.get("/stream")).read() == b"streamed"  # whose end comes after the save
        assert await shown(client) == {"before": True, "after": True}


async def test_a_session_shows_nothing_and_takes_no_id(storage: SpyStorage) -> None:
    session = await AioHttpStorage(storage).new_session()
    session["secret"] = "word"
    assert "word" not in repr(session)
    with pytest.raises(UnsupportedOperation):
        session.set_new_identity("chosen")


async def test_only_its_own_sessions(storage: SpyStorage) -> None:
    foreign = aiohttp_session.Session(None, data=None, new=True)
    with pytest.raises(InvalidArgumentType, match="not one that"):
        await AioHttpStorage(storage).save_session(None, None, foreign)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"cookie_name": "a b"},
        {"cookie_name": "__Host-s", "domain": "service.test"},
        {"samesite": "None", "secure": False},
        {"samesite": "some"},
        {"path": "no-slash"},
        {"httponly": False},
        {"ttl": 0},
        {"absolute_timeout": -1},
        {"unavailable": "ignore"},
    ],
)
def test_bad_arguments(storage: SpyStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        AioHttpStorage(storage, **options)


@pytest.mark.parametrize("options", [{"ttl": "1"}, {"key_factory": "x"}, {"encoder": None}, {"decoder": 1}])
def test_arguments_of_the_wrong_type(storage: SpyStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentType):
        AioHttpStorage(storage, **options)


def test_not_a_storage() -> None:
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        AioHttpStorage({})  # type: ignore[arg-type]


async def test_helpers_need_the_storage(storage: SpyStorage) -> None:
    async def lost(request: web.Request) -> web.Response:
        with pytest.raises(InvalidArgument, match="AioHttpStorage"):
            await save(request)
        return web.Response(text="refused")

    app = web.Application()
    app.router.add_get("/lost", lost)
    async with served(app) as client:
        assert await (await client.get("/lost")).text() == "refused"


async def test_a_logout_reads_no_more_than_aiohttp_session_asks_for(
    client: Client, storage: SpyStorage
) -> None:
    await client.get("/put?a=1")
    storage.calls.clear()
    await client.get("/logout")
    assert storage.calls == ["read", "invalidate"]  # `get_session` reads


async def test_a_session_that_is_replaced_is_not_read(client: Client, storage: SpyStorage) -> None:
    await client.get("/put?a=1")
    old = id_of(client)
    assert old is not None
    storage.calls.clear()
    response = await client.get("/fresh?b=2")
    assert storage.calls == ["rotate", "invalidate", "write"]
    assert len(response.headers.getall("Set-Cookie")) == 1
    assert await storage.info(old) is None
    assert await shown(client) == {"b": "2"}
    storage.calls.clear()
    response = await client.get("/fresh")  # nothing is put into the new one
    assert storage.calls == ["invalidate"]
    assert "Max-Age=0" in response.headers["Set-Cookie"]
