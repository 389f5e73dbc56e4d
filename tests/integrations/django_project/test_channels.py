"""Sessions in consumers of Django Channels."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.auth import AuthMiddlewareStack, login, logout
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.sessions import SessionMiddlewareStack
from django.contrib.auth.models import User
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import SynchronousOnlyOperation
from django.test import AsyncClient

from sqlsessions.integrations.django import SessionStore
from sqlsessions.testing import SpyStorage

from .browsers import abrowser, in_use, key_of  # noqa: F401 (a fixture)

Communicator: Any = ApplicationCommunicator  # which has no types
Consume = Callable[[Any], Awaitable[Any]]
"""Gets a consumer, and gives what it answers."""


class Socket(Communicator):  # type: ignore[misc]
    """A WebSocket, of which each message is answered by one."""

    async def ask(self) -> Any:
        await self.send_input({"type": "websocket.receive", "text": "{}"})
        return json.loads((await self.receive_output(5))["text"])


@asynccontextmanager
async def connected(kind: Any, key: str | None) -> AsyncIterator[Socket]:
    headers = [] if key is None else [(b"cookie", f"sessionid={key}".encode())]
    scope = {"type": "websocket", "path": "/", "headers": headers, "query_string": b"", "subprotocols": []}
    socket = Socket(AuthMiddlewareStack(kind.as_asgi()), scope)
    await socket.send_input({"type": "websocket.connect"})
    assert (await socket.receive_output(5))["type"] == "websocket.accept"
    yield socket
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await socket.wait(5)


def consumer(consume: Consume) -> Any:
    class Consumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
        async def receive_json(self, content: Any) -> None:
            await self.send_json(await consume(self))

    return Consumer


async def answered(consume: Consume, key: str | None) -> Any:
    """What a consumer answers to the only message that it gets."""
    async with connected(consumer(consume), key) as socket:
        return await socket.ask()


async def begun() -> tuple[AsyncClient, str]:
    client = abrowser()
    await client.get("/put/first")
    return client, key_of(client)


def count(data: dict[str, Any]) -> int:
    data["count"] = data.get("count", 0) + 1
    return int(data["count"])


async def test_a_consumer_has_the_session_of_the_cookie_and_its_user(storage: SpyStorage) -> None:
    client, _ = await begun()
    await client.get("/login/7")

    async def consume(consumer: Any) -> Any:
        session = consumer.scope["session"]
        info = await session.ainfo()
        return [consumer.scope["user"].pk, await session.aget("first"), info.subject]

    assert await answered(consume, key_of(client)) == [7, 1, "7"]


@pytest.mark.parametrize("key", [None, "guessed-by-somebody-" * 3, "short"])
async def test_a_consumer_without_a_session(storage: SpyStorage, key: str | None) -> None:
    async def consume(consumer: Any) -> Any:
        session = consumer.scope["session"]
        return [consumer.scope["user"].is_anonymous, dict(await session.aitems()), await session.ainfo()]

    assert await answered(consume, key) == [True, {}, None]
    assert storage.writes == []


async def test_what_a_consumer_changes_is_stored_beside_what_requests_change(storage: SpyStorage) -> None:
    client, key = await begun()

    async def consume(consumer: Any) -> Any:
        session = consumer.scope["session"]
        await session.aget("first")
        await client.get("/put/request")
        await session.aset("consumer", 2)
        await session.asave()
        return await session.achange(count)

    assert await answered(consume, key) == 1
    assert (await client.get("/read")).json() == {"first": 1, "request": 1, "consumer": 2, "count": 1}
    assert key_of(client) == key


async def test_a_logout_elsewhere_is_final(storage: SpyStorage) -> None:
    client, key = await begun()

    async def consume(consumer: Any) -> Any:
        session = consumer.scope["session"]
        await session.aget("first")
        await client.get("/flush")
        with pytest.raises(SessionInterrupted):
            await session.achange(count)
        return await session.aexists(key)

    assert await answered(consume, key) is False
    assert [info async for info in storage.sessions()] == []


async def test_a_login_and_a_logout_in_a_consumer(storage: SpyStorage) -> None:
    _, key = await begun()

    async def consume(consumer: Any) -> Any:
        scope = consumer.scope
        if scope["user"].is_anonymous:
            await login(scope, User(pk=7))
            await scope["session"].asave()
        else:
            await logout(scope)
        return scope["session"].session_key

    async with connected(consumer(consume), key) as socket:
        new = await socket.ask()
        assert new not in (None, key)
        assert await storage.info(key) is None
        assert [info.subject async for info in storage.sessions()] == ["7"]
        assert (await abrowser(new).get("/read")).json() == {"first": 1}
        assert await socket.ask() is None
        assert [info async for info in storage.sessions()] == []


async def test_a_consumer_that_blocks(storage: SpyStorage) -> None:
    client, key = await begun()

    class Blocking(JsonWebsocketConsumer):  # type: ignore[misc]
        def receive_json(self, content: Any) -> None:
            session = self.scope["session"]
            self.send_json([session["first"], session.change(count)])

    async with connected(Blocking, key) as socket:
        assert await socket.ask() == [1, 1]
    assert (await client.get("/read")).json() == {"first": 1, "count": 1}


async def test_blocking_methods_are_refused_where_they_would_block_the_event_loop(
    storage: SpyStorage,
) -> None:
    _, key = await begun()

    async def consume(consumer: Any) -> Any:
        consumer.scope["session"]._wrapped = SessionStore(key)  # which nobody has loaded
        with pytest.raises(SynchronousOnlyOperation, match=r"await session\.aget"):
            consumer.scope["session"]["first"]

    assert await answered(consume, key) is None


class Answering(AsyncHttpConsumer):  # type: ignore[misc]
    """Puts a key into the session, and empties it at a POST."""

    async def handle(self, body: bytes) -> None:
        if self.scope["method"] == "POST":
            await self.scope["session"].aflush()
        else:
            await self.scope["session"].aset("a", 1)
        await self.send_response(200, b"done")


async def request(method: str, key: str | None) -> dict[str, Any]:
    """The cookies of the answer to a request that a consumer serves."""
    headers = [] if key is None else [(b"cookie", f"sessionid={key}".encode())]
    scope = {"type": "http", "method": method, "path": "/", "headers": headers, "query_string": b""}
    served = Communicator(SessionMiddlewareStack(Answering.as_asgi()), scope)
    await served.send_input({"type": "http.request", "body": b""})
    start = await served.receive_output(5)
    await served.receive_output(5)
    found = SimpleCookie()
    for name, value in start["headers"]:
        if name.lower() == b"set-cookie":
            found.load(value.decode())
    return {name: (cookie.value, cookie["max-age"]) for name, cookie in found.items()}


async def test_a_request_that_a_consumer_serves_sets_the_cookie(storage: SpyStorage) -> None:
    key, age = (await request("GET", None))["sessionid"]
    assert age == "1209600"
    assert (await abrowser(key).get("/read")).json() == {"a": 1}
    assert (await request("POST", key))["sessionid"] == ("", "0")
    assert await storage.info(key) is None
