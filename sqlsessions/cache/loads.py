"""Loads of sessions from beneath a cache, each of which serves all who ask meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..channels import ByteReadChannel
from ..errors import SessionNotFound
from ..storage import ManagedSessionStorage, SessionStorage
from .entries import Entries, Entry, Flight, same_version


class Loads:
    """The loads and checks that are under way.

    Args:
        entries: Of the cache; keeps what is loaded.
        delegate: The storage beneath.
        limit: The most bytes that are kept of a session.
        track: Starts a task, and holds it until it has ended.
    """

    def __init__(
        self,
        entries: Entries,
        delegate: SessionStorage,
        limit: int,
        track: Callable[[Coroutine[Any, Any, Entry | None]], asyncio.Task[Entry | None]],
    ) -> None:
        self._entries = entries
        self._delegate = delegate
        self._limit = limit
        self._track = track
        self._loads: dict[bytes, tuple[asyncio.Task[Entry | None], Flight]] = {}

    async def load(self, digest: bytes, id: str) -> Entry | None:
        """Check or load the session; concurrent readers share that. None if it is too large to keep."""
        shared = self._loads.get(digest)
        if (
            shared is None
            or not self._entries.may_join(shared[1])
            or shared[0].get_loop() is not asyncio.get_running_loop()
        ):
            flight = self._entries.begin(digest, mutates=False)
            shared = self._track(self._fetch(digest, id, flight)), flight
            self._loads[digest] = shared
        # The load is shared: a cancelled caller leaves it to the others.
        await asyncio.wait({shared[0]})
        return shared[0].result()

    async def _fetch(self, digest: bytes, id: str, flight: Flight) -> Entry | None:
        async def whole(channel: ByteReadChannel) -> Entry | None:
            if channel.info is not None and channel.info.size > self._limit:
                return None
            data = await channel.read(self._limit + 1)
            return Entry(data, channel.info, flight.began) if len(data) <= self._limit else None

        try:
            if (held := self._entries.peek(digest)) and (
                checked := await self._check(digest, id, flight, held)
            ):
                return checked
            entry = await self._delegate.read(id, whole)
            if entry is not None:
                self._entries.keep(digest, flight, entry.data, entry.info)
            return entry
        finally:
            self._entries.end(digest, flight)
            if (shared := self._loads.get(digest)) and shared[1] is flight:
                del self._loads[digest]

    async def _check(self, digest: bytes, id: str, flight: Flight, held: Entry) -> Entry | None:
        """An entry as the storage beneath has it now; None if that has another version, or none.

        Raises:
            SessionNotFound: If the session has ended.
        """
        if held.info is None or not isinstance(self._delegate, ManagedSessionStorage):
            return None
        info = await self._delegate.info(id)
        if info is None:
            self._entries.discard(digest, held)
            raise SessionNotFound("no live session has this id")
        if not same_version(info, held.info):
            return None
        self._entries.confirm(digest, flight, held, info)
        return Entry(held.data, info, flight.began)
