"""Sources in Redis: starsessions, Litestar, aiohttp-session, Flask-Session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from ..errors import InvalidArgumentType, missing

try:
    from redis.asyncio import Redis
except ModuleNotFoundError as error:
    raise missing(error, "a source in Redis", "redis") from error
from redis.exceptions import RedisError

from ..layers.sources import OldSession, Refused, Source
from .reading import UNSAFE_ID, Reading, Subject, checked_text, flask_loads, is_id
from .signatures import FlaskSigning, Signing

PAGE = 250  # keys


class RedisSource(Source):
    """Sessions in the values of keys that begin alike.

    Args:
        client: A client of redis-py, which the caller closes.
        prefix: What the keys begin with, before the id.
        reading: Reads their data.
        absolute: Whether sessions end at a fixed time.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError, RedisError, TimeoutError)

    _signing: Signing | None = None

    def __init__(self, client: Redis, prefix: str, reading: Reading, *, absolute: bool = False) -> None:
        if not isinstance(client, Redis):
            raise InvalidArgumentType(f"client must be a redis.asyncio.Redis, not {type(client).__name__}")
        self._client: Any = client
        self._prefix = checked_text("prefix", prefix)
        self._reading, self._absolute = reading, absolute

    def _key_of(self, id: str) -> str | None:
        """The part of the key after the prefix, for the value of a cookie; None if there can be none."""
        if not is_id(id):
            return None
        return id if self._signing is None else self._signing.unsign(id)

    async def load(self, id: str) -> OldSession | None:
        if (key := self._key_of(id)) is None:
            return None
        [found] = await self._fetched([self._prefix + key])
        # Under the value that came: it may be signed with an older key.
        return replace(found, id=id) if isinstance(found, OldSession) else None

    async def end(self, id: str) -> None:
        if (key := self._key_of(id)) is not None:
            await self._client.delete(self._prefix + key)

    async def sessions(self) -> AsyncIterator[OldSession | Refused]:
        seen = set[bytes]()  # SCAN may give a key twice
        cursor = 0
        while True:
            cursor, keys = await self._client.scan(cursor, match=_escaped(self._prefix) + "*", count=PAGE)
            new = [key for key in keys if key not in seen]
            seen.update(new)
            for found in await self._fetched(new) if new else ():
                if found is not None:
                    yield found
            if cursor == 0:
                return

    async def _fetched(self, keys: list[str | bytes]) -> list[OldSession | Refused | None]:
        pipeline = self._client.pipeline(transaction=True)
        for key in keys:
            pipeline.get(key)
            pipeline.pttl(key)
        answers = await pipeline.execute(raise_on_error=False)
        now = datetime.now(UTC)
        return [
            self._session(key, data, left, now)
            for key, data, left in zip(keys, answers[::2], answers[1::2], strict=True)
        ]

    def _session(self, key: str | bytes, data: Any, left: Any, now: datetime) -> OldSession | Refused | None:
        if isinstance(data, RedisError) or data is None or left == -2:  # noqa: PLR2004 (-2: it is gone)
            return None  # it is gone, or its value is of another type
        name = key.decode(errors="replace") if isinstance(key, bytes) else key
        id = name.removeprefix(self._prefix)
        if self._signing is not None:
            id = self._signing.sign(id)
        if not is_id(id):
            return UNSAFE_ID
        found = self._reading.read(data if isinstance(data, bytes) else data.encode())
        if isinstance(found, Refused):
            return found
        expires_at = None if left < 0 else now + timedelta(milliseconds=left)
        return OldSession(id, found[0], expires_at, found[1], absolute=self._absolute)


class StarsessionsRedis(RedisSource):
    """The sessions of starsessions in its ``RedisStore``.

    Data is stored with starsessions' own ``__metadata__`` among it: `StarsessionsStore` reads it, and so does
    `sqlsessions.integrations.starlette`, to which it is a key as any other.

    Args:
        client: A client of redis-py for the same server and database; the caller closes it.
        prefix: As given to ``RedisStore``.
        loads: Decodes data; JSON unless set, as with starsessions. With another serializer, the bytes are stored
            as they are, for the same one.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.
        rolling: As given to the middleware: if False, sessions end at a fixed time.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "starsessions.",
        loads: Callable[[bytes], Any] = json.loads,
        subject: Subject = None,
        rolling: bool = False,
    ) -> None:
        super().__init__(
            client, prefix, Reading(subject, loads, keep=loads is not json.loads), absolute=not rolling
        )


class LitestarRedis(RedisSource):
    """The sessions of Litestar's server-side sessions in its ``RedisStore``.

    Args:
        client: A client of redis-py for the same server and database; the caller closes it.
        prefix: The ``namespace`` of the ``RedisStore``, and a colon. What else is in the store is refused or is no
            session: counts of requests, for one.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(self, client: Redis, *, prefix: str = "LITESTAR:", subject: Subject = None) -> None:
        super().__init__(client, prefix, Reading(subject, json.loads))


class AiohttpSessionRedis(RedisSource):
    """The sessions of aiohttp-session in its ``RedisStorage``.

    Args:
        client: A client of redis-py for the same server and database; the caller closes it.
        prefix: The name of the cookie, and an underscore.
        loads: Decodes data, as the ``decoder`` of ``RedisStorage``.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "AIOHTTP_SESSION_",
        loads: Callable[[str], Any] = json.loads,
        subject: Subject = None,
    ) -> None:
        super().__init__(client, prefix, Reading(subject, lambda stored: loads(stored.decode())["session"]))


class FlaskSessionRedis(RedisSource):
    """The sessions of Flask-Session in Redis.

    Args:
        client: A client of redis-py for the same server and database, of ``redis.asyncio``; the caller closes it.
        secret_keys: ``SECRET_KEY``, and older ones after it, if ``SESSION_USE_SIGNER`` is True; else nothing.
        prefix: ``SESSION_KEY_PREFIX``.
        loads: Decodes data; msgpack or JSON unless set, as Flask-Session 0.6 and newer write it. Needs msgspec.
            Older ones wrote pickles: give ``pickle.loads`` only if nobody else can write to that Redis.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        client: Redis,
        *,
        secret_keys: Sequence[str] = (),
        prefix: str = "session:",
        loads: Callable[[bytes], Any] | None = None,
        subject: Subject = None,
    ) -> None:
        super().__init__(client, prefix, Reading(subject, loads or flask_loads()))
        self._signing = FlaskSigning(secret_keys) if secret_keys else None


def _escaped(prefix: str) -> str:
    """A prefix for the pattern of SCAN."""
    return "".join(f"\\{each}" if each in "*?[]\\^" else each for each in prefix)
