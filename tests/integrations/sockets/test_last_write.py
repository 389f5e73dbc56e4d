"""What a WebSocket or stream changed is written when it ends, however that comes about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from sqlsessions import new_session_id
from sqlsessions.testing import SpyStorage

from ..moving import process
from .connections import PATIENCE, Client, Closed
from .services import SERVICES

# aiohttp-session 2.12 keeps what it has in a request under plain strings, of which aiohttp 3.14 warns.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")


async def stored(storage: SpyStorage, id: str) -> Any:
    manager = process(SpyStorage(storage.delegate))
    session = manager.open(id)
    await manager.load(session)
    return session.plain()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # a server tells its client of the end before the handler has returned
            await asyncio.sleep(0.005)


@pytest.fixture
async def id(storage: SpyStorage) -> str:
    made = new_session_id()
    await storage.delegate.write_bytes(made, b'{"a": 1}')
    return made


async def test_a_websocket_whose_client_leaves(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/talk", id) as socket:
        await socket.send("heard")
        assert await socket.receive() == "heard"
        assert await stored(storage, id) == {"a": 1}

    async def written() -> bool:
        return bool(await stored(storage, id) == {"a": 1, "heard": True})

    await until(written)


async def test_a_websocket_whose_handler_fails(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.connect("/talk", id) as socket:
        await socket.send("fail")
        with pytest.raises(Closed):
            await socket.receive()

    async def written() -> bool:
        return bool(await stored(storage, id) == {"a": 1, "fail": True})

    await until(written)


async def test_a_stream_whose_client_leaves(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.stream("/stream", id) as stream:
        assert (await stream.receive()).startswith("begun")
        await until(lambda: noted(stream))

    async def written() -> bool:
        return bool(await stored(storage, id) == {"a": 1, "streamed": True})

    await until(written)


async def test_a_stream_that_fails(client: Client, storage: SpyStorage, id: str) -> None:
    async with client.stream("/breaks", id) as stream:
        with suppress(Exception):  # each framework has its own
            while True:
                await stream.receive()

    async def written() -> bool:
        return bool(await stored(storage, id) == {"a": 1, "streamed": True})

    await until(written)


@pytest.mark.parametrize("client", [name for name in SERVICES if name != "litestar"], indirect=True)
async def test_what_could_not_be_written_at_the_end_is_logged(
    client: Client, storage: SpyStorage, id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Litestar handles the disconnection itself, and gets the error."""
    async with client.connect("/talk", id) as socket:
        await socket.send("heard")
        assert await socket.receive() == "heard"
        storage.down = True

    async def logged() -> bool:
        return "a session could not be" in caplog.text

    await until(logged)
    assert id not in caplog.text
    assert "heard" not in caplog.text


async def noted(stream: Any) -> bool:
    try:
        async with asyncio.timeout(0.2):
            return "noted" in await stream.receive()
    except TimeoutError:
        return True  # it came with the first piece
