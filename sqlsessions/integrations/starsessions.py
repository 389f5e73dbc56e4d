"""Sessions for projects on starsessions: `StarsessionsStore` and `SessionMiddleware`."""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakValueDictionary

import starsessions
from starlette.types import Receive, Scope, Send

from ..errors import InvalidSessionId, SessionConflict, StorageUnavailable
from ..records import digest
from ..storage import DEFAULT, Default, ManagedSessionStorage, new_session_id
from ._web.arguments import checked_storage
from ._web.asgi import cookies_of
from ._web.candidates import candidate_ids, load_live
from ._web.cookies import parse_custom_id

__all__ = ["SessionMiddleware", "StarsessionsStore"]

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds

logger = logging.getLogger("sqlsessions")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a request read under the id of its cookie.

    Attributes:
        store: The store.
        presented: The id that was asked for.
        id: The id of the live session, which may be that of another cookie of the same name.
        version: Its version; None if there is no session.
    """

    store: StarsessionsStore
    presented: str
    id: str
    version: int | None


@dataclass(slots=True)
class _Request:
    """A request that passes through `SessionMiddleware`, in all of its tasks.

    Attributes:
        candidates: The ids in its cookies.
        found: What it read; None until then.
    """

    candidates: tuple[str, ...]
    found: _Found | None = None


_request: ContextVar[_Request | None] = ContextVar("sqlsessions_starsessions_request", default=None)
_found: ContextVar[_Found | None] = ContextVar("sqlsessions_starsessions_found", default=None)


class SessionMiddleware(starsessions.SessionMiddleware):
    """starsessions' middleware of this name, which tells `StarsessionsStore` what belongs to one request.

    A request then does not bring back a session that ended meanwhile, wherever it loads it, and of several
    cookies of the same name the one whose session lives is used.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        candidates: tuple[str, ...] = ()
        if scope["type"] in ("http", "websocket"):
            candidates = candidate_ids(cookies_of(scope, self.cookie_name), parse_custom_id)
        token = _request.set(_Request(candidates))
        try:
            await super().__call__(scope, receive, send)
        finally:
            _request.reset(token)


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
        if not _is_id(session_id):
            return b""
        live = await load_live(self.storage, _candidates(session_id))
        if live is None:
            self._note(session_id, session_id, None)
            return b""
        id, snapshot = live
        self._note(session_id, id, snapshot.info.version)
        return snapshot.data

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
        expiry: float | Default = DEFAULT if lifetime == 0 else max(1, ttl)
        id, version = await self._found(session_id)
        if version is not None:
            version = await self._replace(id, version, data, expiry)
        else:
            id = new_session_id()
            version = (await self.storage.write_bytes(id, data, ttl=expiry, if_match=0)).version
        if version is None:
            logger.warning("a session ended while a request was under way: its changes are dropped")
        else:
            self._note(id, id, version)
        return id

    async def remove(self, session_id: str) -> None:
        """End a session, if there is one.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        for id in _candidates(session_id):
            if _is_id(id):
                await self.storage.invalidate(id)

    def _note(self, presented: str, id: str, version: int | None) -> None:
        found = _Found(self, presented, id, version)
        if (request := _request.get()) is not None:
            request.found = found
        else:
            _found.set(found)

    async def _found(self, session_id: str) -> tuple[str, int | None]:
        """The id of a live session, with the version that the request read, or else that it has now."""
        request = _request.get()
        found = _found.get() if request is None else request.found
        if found is not None and found.store is self and found.presented == session_id:
            return found.id, found.version
        if not _is_id(session_id) or (request is not None and session_id not in request.candidates):
            return session_id, None  # starsessions has just made it
        info = await self.storage.info(session_id)
        return session_id, None if info is None else info.version

    async def _replace(self, id: str, version: int, data: bytes, ttl: float | Default) -> int | None:
        """Write a session over later writes of other requests; the new version, or None if it ended."""
        try:
            return (await self.storage.write_bytes(id, data, ttl=ttl, if_match=version)).version
        except SessionConflict:
            loop = asyncio.get_running_loop()
            async with self._locks.setdefault((loop, id), asyncio.Lock()):
                return await self._replace_again(id, data, ttl)

    async def _replace_again(self, id: str, data: bytes, ttl: float | Default) -> int | None:
        """The same, while other requests of this process wait: they need not conflict again."""
        for attempt in range(ATTEMPTS):
            if (info := await self.storage.info(id)) is None:
                return None
            try:
                return (await self.storage.write_bytes(id, data, ttl=ttl, if_match=info.version)).version
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
