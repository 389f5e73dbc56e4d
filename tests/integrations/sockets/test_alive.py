"""Open WebSockets and streams end with their session, in every framework."""

from __future__ import annotations

import asyncio
import json

import pytest

from sqlsessions import new_session_id
from sqlsessions.integrations._web.watching import _watchers
from sqlsessions.testing import ManualClock, SpyStorage

from .connections import PATIENCE, Client, Closed, Connection
from .services import EVERY

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


@pytest.fixture
async def id(storage: SpyStorage) -> str:
    made = new_session_id()
    await storage.delegate.write_bytes(made, b'{"a": 1}', ttl=100, subject="7")
    return made


async def closed(connection: Connection) -> int | None:
    with pytest.raises(Closed) as caught:
        await connection.receive()
    return caught.value.code


async def goes_on(connection: Connection, storage: SpyStorage) -> None:
    """Wait until the session was asked for twice, and see that the connection still answers."""
    asked = storage.calls.count("infos")
    async with asyncio.timeout(PATIENCE):
        while storage.calls.count("infos") < asked + 2:
            await asyncio.sleep(EVERY / 5)
    await connection.send("still there")
    assert await connection.receive() == "still there"


@pytest.mark.parametrize("code", [1008, 4401])
async def test_a_websocket_is_closed_when_its_session_is_revoked(
    client: Client, storage: SpyStorage, id: str, code: int
) -> None:
    async with client.connect(f"/watch?code={code}", id) as socket:
        assert await socket.receive() == "open"
        await goes_on(socket, storage)
        await storage.delegate.revoke("7")
        assert await closed(socket) == code
    assert _watchers == {}


async def test_a_stream_ends_with_its_session(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.stream("/events", id) as stream:
        assert await stream.receive() == "open"
        await storage.delegate.invalidate(id)
        assert await closed(stream) is None


async def test_a_response_that_has_not_begun_gets_an_error(
    client: Client, storage: SpyStorage, id: str
) -> None:
    async def end() -> None:
        while "infos" not in storage.calls:
            await asyncio.sleep(EVERY / 5)
        await storage.delegate.invalidate(id)

    ending = asyncio.create_task(end())
    async with client.stream("/poll", id) as response:
        assert await response.receive() == "gone"
    await ending


async def test_a_websocket_is_closed_when_its_session_expires(
    client: Client, id: str, clock: ManualClock
) -> None:
    async with client.connect("/watch", id) as socket:
        assert await socket.receive() == "open"
        clock.advance(101)
        assert await closed(socket) == 1008


async def test_a_websocket_follows_a_new_id(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/watch", id) as socket:
        assert await socket.receive() == "open"
        for _ in range(2):
            await storage.delegate.rotate(id, id := new_session_id())
            await goes_on(socket, storage)
        await storage.delegate.invalidate(id)
        assert await closed(socket) == 1008


async def test_a_websocket_is_closed_when_another_user_has_its_session(
    client: Client, storage: SpyStorage, id: str
) -> None:
    async with client.connect("/watch", id) as socket:
        assert await socket.receive() == "open"
        await storage.delegate.rotate(id, id := new_session_id())
        await storage.delegate.write_bytes(id, b"{}", subject="8")
        assert await closed(socket) == 1008


async def test_a_visitor_s_websocket_is_left_alone(client: Client, storage: SpyStorage) -> None:
    async with client.connect("/watch") as socket:
        assert await socket.receive() == "open"
        await asyncio.sleep(3 * EVERY)
        await socket.send("still there")
        assert await socket.receive() == "still there"
        assert storage.calls == []
        assert _watchers == {}


async def test_a_storage_that_is_unavailable_closes_nothing(
    client: Client, storage: SpyStorage, id: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.connect("/watch", id) as socket:
        assert await socket.receive() == "open"
        storage.down = True
        await goes_on(socket, storage)
        storage.down = False
        await goes_on(socket, storage)
        assert caplog.text.count("cannot be looked up") == 1
        await storage.delegate.invalidate(id)
        assert await closed(socket) == 1008


async def test_refreshing(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/ask", id) as socket:

        async def refreshed() -> object:
            await socket.send("refresh")
            return json.loads(await socket.receive())

        assert await refreshed() == [{"a": 1}, "7", False]
        await storage.delegate.write_bytes(id, b'{"a": 2}')
        assert await refreshed() == [{"a": 2}, "7", False]
        await storage.delegate.rotate(id, moved := new_session_id())
        await storage.delegate.write_bytes(moved, b'{"a": 3}')
        assert await refreshed() == [{"a": 3}, "7", False]
        await socket.send("mine")
        assert await refreshed() == [{"a": 3, "mine": True}, "7", False]
        assert b"mine" in await storage.delegate.read_bytes(moved)
        await storage.delegate.write_bytes(moved, b"\xff no data")
        assert await refreshed() == [{}, None, True]
        await socket.send("mine")
        assert await refreshed() == [{"mine": True}, None, True]


async def test_refreshing_what_another_user_has(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/ask", id) as socket:
        await socket.send("refresh")
        assert json.loads(await socket.receive()) == [{"a": 1}, "7", False]
        await storage.delegate.rotate(id, moved := new_session_id())
        await storage.delegate.write_bytes(moved, b'{"a": 3}', subject="8")
        await socket.send("refresh")
        assert json.loads(await socket.receive()) == [{}, None, True]
        await socket.send("mine")
        await socket.send("save")
        assert await socket.receive() == "not saved"
    assert await storage.delegate.read_bytes(moved) == b'{"a": 3}'


async def test_saving_a_session_that_ended_raises(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/ask", id) as socket:
        await socket.send("mine")
        await socket.send("save")
        assert await socket.receive() == "saved"
        await storage.delegate.invalidate(id)
        for _ in range(2):
            await socket.send("more")
            await socket.send("save")
            assert await socket.receive() == "not saved"
        await socket.send("log in")
        await socket.send("save")
        assert await socket.receive() == "saved"
    [info] = [info async for info in storage.delegate.sessions()]
    assert info.subject == "8"
