"""A bus apart from the database: the channels of Redis or Valkey."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from ...errors import missing

try:
    from redis.asyncio import Redis
except ModuleNotFoundError as error:
    raise missing(error, "RedisBus", "redis") from error
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from .base import Notice
from .listening import ListeningBus

logger = logging.getLogger("sqlsessions")

DIGEST = 32  # bytes
SENDER = 16  # bytes, random
PER_MESSAGE = 1000  # digests
MOST = 10_000
"""Digests that wait to be sent; past that, other caches are told to empty themselves."""
TIMEOUT = 2.0  # seconds


class RedisBus(ListeningBus):
    """Tells the caches of other processes through Redis or Valkey what goes through this one's.

    What is changed without such a cache, it cannot tell, nor what a process did that was killed between its commit
    and its notice, or could not reach the server: all that is seen within the cache's ``max_staleness``. Needs the
    extra ``redis``.

    Args:
        url: For instance ``redis://localhost:6379``.
        channel: The same for all processes with one database, and for no others.
    """

    def __init__(self, url: str, *, channel: str = "sqlsessions") -> None:
        super().__init__()
        self._url = url
        self._channel = channel
        self._sender = secrets.token_bytes(SENDER)
        self._client: Any = None
        self._failed = False
        self._outbox: _Outbox | None = None

    async def publish(self, digests: Collection[bytes]) -> None:
        if self.state() is None and self._failed:  # who writes does not wait for a server that is away
            return
        loop = asyncio.get_running_loop()
        if self._outbox is None or self._outbox.loop is not loop:
            self._outbox = _Outbox(loop, self._send)
        await self._outbox.put(digests)

    async def _send(self, digests: Sequence[bytes]) -> None:
        """Tell of some sessions, or to empty caches if there are too many."""
        client, task = self._client, self._task
        own = client is not None and task is not None and task.get_loop() is asyncio.get_running_loop()
        if not own:
            client = self._connect()
        if len(digests) > MOST:
            logger.info("more than %d changes at once: other caches are emptied", MOST)
            digests = ()
        try:
            for start in range(0, max(1, len(digests)), PER_MESSAGE):
                message = self._sender + b"".join(digests[start : start + PER_MESSAGE])
                await client.publish(self._channel, message)
            self._failed = False
        except (RedisError, OSError) as error:
            self._failed = True
            self._doubt()
            logger.warning("other caches could not be told of a change: %s", type(error).__name__)
        finally:
            if self._client is not client:  # its own, or closed meanwhile, after which it has connected again
                with suppress(RedisError, OSError):
                    await client.aclose()

    def _connect(self) -> Any:
        # A connection that came back by itself would hide that notices were missed.
        never = Retry(NoBackoff(), 0)
        return Redis.from_url(self._url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=never)

    async def _serve(self) -> None:
        client = self._connect()
        channels = client.pubsub(ignore_subscribe_messages=True)
        own = f"{self._channel}:{secrets.token_hex(8)}"
        try:
            await channels.subscribe(self._channel, own)
            self._client = client
            line = _Line(self, client, channels, own)
            while True:
                await self._beat(line)
        finally:
            self._client = None
            for opened in (channels, client):
                with suppress(RedisError, OSError):
                    await opened.aclose()

    def _arrived(self, data: bytes) -> None:
        if data[:SENDER] == self._sender:
            return
        if len(data) == SENDER:
            self._note_gap()
            return
        starts = range(SENDER, len(data), DIGEST)
        self._deliver([Notice(data[start : start + DIGEST], None) for start in starts])


class _Outbox:
    """Sessions to tell of, in one event loop. What comes while others are sent goes out together after that.

    Args:
        loop: The event loop.
        send: Sends some of them, one call at a time.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, send: Callable[[Sequence[bytes]], Awaitable[None]]
    ) -> None:
        self.loop = loop
        self._send = send
        self._waiting: list[bytes] = []
        self._sent: asyncio.Future[None] = loop.create_future()
        self._task: asyncio.Task[None] | None = None

    async def put(self, digests: Iterable[bytes]) -> None:
        """Have sessions told of, and wait until that was tried."""
        if len(self._waiting) <= MOST:  # else it is not told which
            self._waiting += digests
        sent = self._sent
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._run())
        await asyncio.wait({sent})

    async def _run(self) -> None:
        while self._waiting:
            digests, sent = self._waiting, self._sent
            self._waiting, self._sent = [], self.loop.create_future()
            try:
                await self._send(digests)
            finally:
                sent.set_result(None)


class _Line:
    """A subscription, and the client that sends to it."""

    def __init__(self, bus: RedisBus, client: Any, channels: Any, own: str) -> None:
        self._bus = bus
        self._client = client
        self._channels = channels
        self._own = own

    async def send(self, heartbeat: str) -> None:
        await self._client.publish(self._own, heartbeat)

    async def wait(self, seconds: float) -> None:
        message = await self._channels.get_message(timeout=seconds)
        if message is None:
            return
        if message["channel"].decode() == self._own:
            self._bus._hear(message["data"].decode())  # noqa: SLF001 (its own)
        else:
            self._bus._arrived(message["data"])  # noqa: SLF001 (its own)
