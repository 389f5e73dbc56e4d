"""Sessions for projects on starsessions: `StarsessionsStore` and `SessionMiddleware`."""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

import starsessions
from starlette.types import Message, Receive, Scope, Send

from ..errors import InvalidSessionId, SessionConflict, SessionTooLarge, StorageUnavailable
from ..info import SessionInfo
from ..records import digest
from ..storage import DEFAULT, Default, ManagedSessionStorage, new_session_id
from ._web.arguments import checked_storage
from ._web.asgi import cookies_of
from ._web.candidates import candidate_ids, load_live
from ._web.cookies import parse_custom_id
from ._web.payloads import max_size
from ._web.renewal import gains
from ._web.serializers import Verified
from ._web.unreadable import log_unreadable

__all__ = ["SessionMiddleware", "StarsessionsStore"]

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds

_METADATA = "__metadata__"  # the key of starsessions' own

logger = logging.getLogger("sqlsessions")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a request read under the id of its cookie.

    Attributes:
        store: The store.
        presented: The id that was asked for.
        id: The id of the live session, which may be that of another cookie of the same name.
        info: The session; None if there is none.
    """

    store: StarsessionsStore
    presented: str = field(repr=False)
    id: str = field(repr=False)
    info: SessionInfo | None


@dataclass(slots=True)
class _Request:
    """A request that passes through `SessionMiddleware`, in all of its tasks.

    Attributes:
        candidates: The ids in its cookies.
        found: What it read; None until then.
        kept: The id whose cookie the browser keeps as it is; None if there is none.
    """

    candidates: tuple[str, ...] = field(repr=False)
    found: _Found | None = None
    kept: str | None = field(default=None, repr=False)


_request: ContextVar[_Request | None] = ContextVar("sqlsessions_starsessions_request", default=None)
_found: ContextVar[_Found | None] = ContextVar("sqlsessions_starsessions_found", default=None)


class SessionMiddleware(starsessions.SessionMiddleware):
    """starsessions' middleware of this name, which tells `StarsessionsStore` what belongs to one request.

    A request then does not bring back a session that ended meanwhile, wherever it loads it, and of several
    cookies of the same name the one whose session lives is used. A session whose data cannot be read is none. The
    cookie is not sent with each response, but once that gains 5 % of its time: a slow response does not take a new
    cookie away from the browser.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.serializer = _Reader(self.serializer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        candidates: tuple[str, ...] = ()
        if scope["type"] in ("http", "websocket"):
            candidates = candidate_ids(cookies_of(scope, self.cookie_name), parse_custom_id)
        request = _Request(candidates)

        async def send_kept(message: Message) -> None:
            if message["type"] == "http.response.start" and request.kept is not None:
                kept = f"{self.cookie_name}={request.kept};".encode("latin-1")
                headers = [
                    header
                    for header in message["headers"]
                    if header[0] != b"set-cookie" or not header[1].startswith(kept)
                ]
                message = {**message, "headers": headers}
            await send(message)

        token = _request.set(request)
        try:
            await super().__call__(scope, receive, send_kept)
        finally:
            _request.reset(token)


class _Reader(starsessions.Serializer):
    """A serializer, to which a session whose data it cannot read is none: what is written gets a new id."""

    def __init__(self, serializer: starsessions.Serializer) -> None:
        self._serializer = serializer
        self._verified = Verified(serializer.serialize, serializer.deserialize)

    def serialize(self, data: Any) -> bytes:
        return self._verified.dumps(data)

    def deserialize(self, data: bytes) -> dict[str, Any]:
        request = _request.get()
        found = None if request is None else request.found
        if request is None or found is None or found.info is None:
            return self._serializer.deserialize(data)
        try:
            read: Any = self._serializer.deserialize(data) if data else None
        except Exception:  # noqa: BLE001 (a serializer may raise anything)
            read = None
        if isinstance(read, dict) and isinstance(read.get(_METADATA, {}), dict):
            return read
        log_unreadable(found.store.storage, found.store.storage.digest(found.id))
        request.found = replace(found, info=None)
        return {}


class StarsessionsStore(starsessions.SessionStore):
    """A store for ``SessionMiddleware(app, store=StarsessionsStore(storage), ...)``.

    It is safer than the interface requires. An id of which there is no session is never used: a write gives
    a new one. With the `SessionMiddleware` of this module, a request does not bring back a session that ended
    meanwhile. With starsessions' own, that holds where the session is loaded in the middleware's own task, as
    by `SessionAutoloadMiddleware` right inside it.

    Args:
        storage: The storage of the sessions; it is not closed.

    Raises:
        InvalidArgumentType: If ``storage`` is not a `ManagedSessionStorage`.
    """

    def __init__(self, storage: ManagedSessionStorage) -> None:
        self.storage = checked_storage(storage)
        self._locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    async def read(self, session_id: str, lifetime: int) -> bytes:  # noqa: ARG002 (of the interface)
        """The data of a session; empty if there is none.

        Args:
            session_id: Its id.
            lifetime: Ignored: a session expires as it was written.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        request = _request.get()
        ids = request.candidates if request is not None and request.candidates else (session_id,)
        if not _is_id(ids[0]):
            return b""
        live = await load_live(self.storage, ids, lambda data: data)
        if live is None:
            self._note(session_id, session_id, None)
            return b""
        id, snapshot, data = live
        self._note(session_id, id, snapshot.info)
        return data

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        """Replace the data of a session.

        Args:
            session_id: Its id.
            data: The data.
            lifetime: Lifetime of sessions in seconds; 0 is until the browser is closed, and the storage's
                own idle timeout holds.
            ttl: Seconds until it ends, at least 1. Ignored if ``lifetime`` is 0.

        Returns:
            The id for the cookie: a new one if no session had this id.

        Raises:
            StorageUnavailable: If it could not be written.
            SessionTooLarge: If the data is too large for the storage.
        """
        if len(data) > (most := max_size(self.storage)):
            raise SessionTooLarge(most, len(data))
        expiry: float | Default = DEFAULT if lifetime == 0 else max(1, ttl)
        id, over = await self._found(session_id)
        if over is not None:
            info = await self._replace(id, over, data, expiry)
            self._keep_cookie(id, info is None or lifetime == 0 or not gains(over, info))
        else:
            id = new_session_id()
            info = await self.storage.write_bytes(id, data, ttl=expiry, if_match=0)
        if info is None:
            logger.warning("a session ended while a request was under way: its changes are dropped")
        else:
            self._note(id, id, info)
        return id

    async def remove(self, session_id: str | None) -> None:
        """End a session, if there is one.

        Args:
            session_id: Its id; None, as ``get_session_id`` gives for a visitor without a session, is none.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        if session_id is None:
            return
        for id in _candidates(session_id):
            if _is_id(id):
                await self.storage.invalidate(id)

    def _note(self, presented: str, id: str, info: SessionInfo | None) -> None:
        found = _Found(self, presented, id, info)
        if (request := _request.get()) is not None:
            request.found = found
        else:
            _found.set(found)

    def _keep_cookie(self, id: str, keep: bool) -> None:
        """Have the middleware of this module send the cookie of an id, or not; another one always does."""
        request = _request.get()
        if request is not None and id in request.candidates:
            request.kept = id if keep else None

    async def _found(self, session_id: str) -> tuple[str, SessionInfo | None]:
        """The id of a live session, with what the request read of it, or else what there is now."""
        request = _request.get()
        found = _found.get() if request is None else request.found
        if found is not None and found.store is self and found.presented == session_id:
            return found.id, found.info
        if not _is_id(session_id) or (request is not None and session_id not in request.candidates):
            return session_id, None  # starsessions has just made it
        return session_id, await self.storage.info(session_id)

    async def _replace(
        self, id: str, over: SessionInfo, data: bytes, ttl: float | Default
    ) -> SessionInfo | None:
        """Write a session over later writes of other requests; the session, or None if it ended."""
        try:
            return await self.storage.write_bytes(id, data, ttl=ttl, if_match=over.version)
        except SessionConflict:
            loop = asyncio.get_running_loop()
            async with self._locks.setdefault((loop, id), asyncio.Lock()):
                return await self._replace_again(id, data, ttl)

    async def _replace_again(self, id: str, data: bytes, ttl: float | Default) -> SessionInfo | None:
        """The same, while other requests of this process wait: they need not conflict again."""
        for attempt in range(ATTEMPTS):
            if (info := await self.storage.info(id)) is None:
                return None
            try:
                return await self.storage.write_bytes(id, data, ttl=ttl, if_match=info.version)
            except SessionConflict:
                await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
        raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} writes: try again later")


def _candidates(session_id: str) -> tuple[str, ...]:
    """The ids in the cookies of the request, if this is one of them; else just the id."""
    request = _request.get()
    if request is not None and session_id in request.candidates:
        return request.candidates
    return (session_id,)


def _is_id(id: str) -> bool:
    try:
        digest(id)
    except InvalidSessionId:
        return False
    return True
