"""Sessions for projects on starsessions: `StarsessionsStore`."""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar
from dataclasses import dataclass
from weakref import WeakValueDictionary

from starsessions import SessionStore

from ..errors import InvalidSessionId, SessionConflict, StorageUnavailable
from ..records import digest
from ..storage import DEFAULT, Default, ManagedSessionStorage, new_session_id
from ._web.arguments import checked_storage

__all__ = ["StarsessionsStore"]

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class _Found:
    """The version that a request read under the id of its cookie; None if there was no session."""

    store: StarsessionsStore
    digest: bytes
    version: int | None


_found: ContextVar[_Found | None] = ContextVar("sqlsessions_starsessions", default=None)


class StarsessionsStore(SessionStore):
    """A store for ``SessionMiddleware(app, store=StarsessionsStore(storage), ...)`` of starsessions.

    It is safer than the interface requires if it knows which read and which write belong to one request:
    if the session is loaded in the middleware's own task, as by `SessionAutoloadMiddleware` right inside
    it. An id whose session is gone is then replaced by a new one, and a request does not bring back a
    session that ended meanwhile. Otherwise the id of the cookie is written.

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
        if (key := _digest(session_id)) is None:
            return b""
        snapshot = await self.storage.load(session_id)
        _found.set(_Found(self, key, snapshot.info.version if snapshot else None))
        return snapshot.data if snapshot else b""

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
        key, found = _digest(session_id), _found.get()
        expiry: float | Default = DEFAULT if lifetime == 0 else max(1, ttl)
        if found is not None and (found.store is not self or found.digest != key):
            found = None
        if found is not None and found.version is not None:
            await self._replace(session_id, found.version, data, expiry)
            return session_id
        if key is None or found is not None:
            session_id = new_session_id()
        info = await self.storage.write_bytes(session_id, data, ttl=expiry)
        _found.set(_Found(self, digest(session_id), info.version))
        return session_id

    async def remove(self, session_id: str) -> None:
        """End a session, if there is one.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        if _digest(session_id) is not None:
            await self.storage.invalidate(session_id)

    async def _replace(self, id: str, version: int, data: bytes, ttl: float | Default) -> None:
        """Write a session over later writes of other requests, unless it ended."""
        try:
            written = await self.storage.write_bytes(id, data, ttl=ttl, if_match=version)
        except SessionConflict:
            loop = asyncio.get_running_loop()
            async with self._locks.setdefault((loop, id), asyncio.Lock()):
                await self._replace_again(id, data, ttl)
        else:
            _found.set(_Found(self, digest(id), written.version))

    async def _replace_again(self, id: str, data: bytes, ttl: float | Default) -> None:
        """The same, while other requests of this process wait: they need not conflict again."""
        for attempt in range(ATTEMPTS):
            if (info := await self.storage.info(id)) is None:
                return
            try:
                written = await self.storage.write_bytes(id, data, ttl=ttl, if_match=info.version)
            except SessionConflict:
                await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
            else:
                _found.set(_Found(self, digest(id), written.version))
                return
        raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} writes: try again later")


def _digest(id: str) -> bytes | None:
    try:
        return digest(id)
    except InvalidSessionId:
        return None
