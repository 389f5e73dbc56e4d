"""Whether the sessions of open connections still live: one task of an event loop asks for all, by storage."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import count

from ...errors import SessionError, StorageClosed, UnsupportedOperation
from ...info import SessionInfo
from ...records import from_datetime, microseconds
from ...storage import ManagedSessionStorage
from .session import Session
from .state import UNSET

PERIOD = 15.0
"""Seconds between two questions, unless set."""

BATCH = 256
"""How many sessions one question is about."""

MOST_MOVES = 16
"""How many changes of an id that come right after each other are followed."""

_FEW = 64

_TICK = 1.0  # seconds between two looks at the clock, which may be set while the event loop sleeps
_SECOND = 1_000_000

logger = logging.getLogger("sqlsessions")


class Watch:
    """An open connection, and what is known about its session.

    Args:
        session: The session, which is stored.
        every: Seconds after which to ask again.
        end: Called when the session has ended.

    Attributes:
        key: The `SessionInfo.key` of the session by now; None if its own request ended it.
        expires_at: When it expires as far as is known, in microseconds since 1970; None is never.
        doubted: Whether it seemed to have ended while its own request was changing it.
        awaited: The expiry for which the watcher waits.
    """

    def __init__(self, session: Session, every: float, end: Callable[[], None]) -> None:
        self.session = session
        self.every = every
        self.end = end
        self.doubted = False
        self.awaited: int | None = None
        self._info: SessionInfo | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Take over what its own request has made of the session, such as a login; whether there was anything."""
        info = self.session.info
        if info is self._info and info is not None:
            return False
        self._info = info
        self.key = None if info is None else info.key
        self.subject = None if info is None else info.subject
        self.expires_at = _expiry(info)
        return True

    @property
    def changing(self) -> bool:
        """Whether its own request is changing whose session it is, or its id, and has not written that."""
        state = self.session.state
        return (
            state.subject is not UNSET
            or state.ending is not None
            or state.cleared
            or state.regenerating
            or state.expiry_dropped
        )

    def follow(self, info: SessionInfo) -> None:
        """Note the session as it is stored now, perhaps under another key."""
        self.key, self.expires_at, self.doubted = info.key, _expiry(info), False


class Watcher:
    """Asks in intervals for the sessions of all open connections of an event loop, and ends those whose session ended.

    A session has ended if it was ended or revoked, has expired, or belongs to another subject; with a new id and
    the same subject it goes on. Expiry is known beforehand, and only confirmed. While the storage cannot be
    reached, connections go on until their session expires.

    The task runs while there are connections. A storage that learns of changes at once, such as from other
    processes, says so through `ManagedSessionStorage.subscribe`, and these sessions are then asked for at once.

    Args:
        storage: The storage of the sessions.
    """

    def __init__(self, storage: ManagedSessionStorage) -> None:
        self._storage = storage
        self._clock = getattr(storage, "clock", time.time)
        self._loop = asyncio.get_running_loop()
        self._watches: dict[Watch, None] = {}
        self._by_key: dict[str | None, set[Watch]] = {}
        self._noticed: set[str] = set()
        self._next_look = 0.0
        self._expiries: list[
            tuple[int, int, Watch]
        ] = []  # a heap, in which other expiries than `awaited` are void
        self._numbers = count()
        self._not_before = 0.0  # when the next question about expired sessions may be asked
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def add(self, watch: Watch) -> None:
        """Begin to watch a connection."""
        look = self._loop.time() + watch.every
        self._next_look = min(self._next_look, look) if self._watches else look
        self._watches[watch] = None
        self._await_expiry(watch)
        self._by_key.setdefault(watch.key, set()).add(watch)
        self._awake.set()
        if self._task is None or self._task.done():
            # Without the context of the request that happens to be the first, such as its span.
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())

    def discard(self, watch: Watch) -> None:
        """Watch a connection no longer."""
        if watch in self._watches:
            del self._watches[watch]
            self._unlist(watch)
            watch.awaited = None
            self._drop_void()
            if not self._watches:
                self._awake.set()

    def notice(self, keys: Collection[str] | None) -> None:
        """Ask for some sessions at once, as they may have changed; from any thread.

        Args:
            keys: Their keys; None is all.
        """
        if keys is None or not self._by_key.keys().isdisjoint(keys):
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._note, keys)

    def _note(self, keys: Collection[str] | None) -> None:
        if keys is None:
            self._next_look = 0.0
        else:
            self._noticed.update(keys)
        self._awake.set()

    async def _run(self) -> None:
        unsubscribe = self._storage.subscribe(self.notice)
        try:
            while self._watches:
                if due := self._due():
                    await self._ask(due)
                else:
                    await self._pause()
        except StorageClosed:
            self._watches.clear()
            self._by_key.clear()
        finally:
            unsubscribe()
            if not self._watches:
                _watchers.pop((self._loop, id(self._storage)), None)

    async def _pause(self) -> None:
        pause = min(_TICK, self._next_look - self._loop.time())
        if (expiry := self._next_expiry()) is not None:
            left = (expiry - microseconds(self._clock)) / _SECOND
            pause = min(pause, max(left, self._not_before - self._loop.time()))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(pause, 0.0)):
                await self._awake.wait()
        self._awake.clear()

    def _due(self) -> list[Watch]:
        """The connections whose session is to be asked for now."""
        noticed, self._noticed = self._noticed, set()
        if self._loop.time() >= self._next_look:
            self._next_look = self._loop.time() + min(watch.every for watch in self._watches)
            return list(self._watches)
        due = {watch: None for key in noticed for watch in self._by_key.get(key, ())}
        if self._loop.time() >= self._not_before:
            due |= dict.fromkeys(self._expired())
        return list(due)

    def _await_expiry(self, watch: Watch) -> None:
        """Have the expiry of a session looked at when it comes."""
        if watch.expires_at is not None and watch.expires_at != watch.awaited:
            heapq.heappush(self._expiries, (watch.expires_at, next(self._numbers), watch))
        watch.awaited = watch.expires_at
        self._drop_void()

    def _drop_void(self) -> None:
        """Keep the heap from growing with sessions that are extended and connections that are closed."""
        if len(self._expiries) > 2 * len(self._watches) + _FEW:
            self._expiries = [each for each in self._expiries if each[0] == each[2].awaited]
            heapq.heapify(self._expiries)

    def _next_expiry(self) -> int | None:
        """When the next session expires, in microseconds since 1970; None if none does."""
        while self._expiries and self._expiries[0][0] != self._expiries[0][2].awaited:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def _expired(self) -> list[Watch]:
        """The connections whose session has expired as far as is known; they are awaited no longer."""
        now, found = microseconds(self._clock), []
        while (expiry := self._next_expiry()) is not None and expiry <= now:
            watch = heapq.heappop(self._expiries)[2]
            watch.awaited = None
            found.append(watch)
        return found

    def _has_expired(self, watch: Watch) -> bool:
        return watch.expires_at is not None and watch.expires_at <= microseconds(self._clock)

    async def _ask(self, due: list[Watch]) -> None:
        """Ask for the sessions of connections, and end those whose session ended."""
        asked: dict[str | None, list[Watch]] = {}
        for watch in due:
            if watch in self._watches:
                self._refresh(watch)
                asked.setdefault(watch.key, []).append(watch)
        for watch in asked.pop(None, ()):
            self._judge(watch, None)
        keys = [key for key in asked if key is not None]
        for start in range(0, len(keys), BATCH):
            await self._ask_batch({key: asked[key] for key in keys[start : start + BATCH]})
        left = [watch for watch in due if watch in self._watches]
        for watch in left:
            self._await_expiry(watch)
        self._not_before = self._loop.time() + _TICK if any(map(self._has_expired, left)) else 0.0

    async def _ask_batch(self, batch: dict[str, list[Watch]]) -> None:
        try:
            found = await self._states(batch)
        except StorageClosed:
            raise
        except Exception as error:  # noqa: BLE001 (of a third party's storage; it is asked again)
            self._failed(error)
            for watch in [watch for watches in batch.values() for watch in watches]:
                if watch in self._watches and not self._refresh(watch) and self._has_expired(watch):
                    self._judge(watch, None)
            return
        if self._failing:
            self._failing = False
            logger.info("the sessions of open connections can be looked up again")
        for key, watches in batch.items():
            for watch in watches:
                # Its own request may have written it since, or it is closed.
                if watch in self._watches and not self._refresh(watch):
                    self._judge(watch, found.get(key))

    async def _states(self, asked: dict[str, list[Watch]]) -> dict[str, SessionInfo]:
        """The live sessions among some, by the key that was asked for, though they may have another by now."""
        try:
            found = await self._storage.infos(asked)
            moved = {key: key for key in asked if key not in found}
            for _ in range(MOST_MOVES):
                if not moved:
                    break
                went = await self._storage.successors(moved.values())
                there = {key: went[last] for key, last in moved.items() if last in went}
                found |= {key: each.info for key, each in there.items() if each.info is not None}
                # What is not there any more either may have been moved again just now.
                moved = {
                    key: each.key
                    for key, each in there.items()
                    if each.info is None and each.key != moved[key]
                }
        except UnsupportedOperation:
            return await self._one_by_one(asked)
        return found

    async def _one_by_one(self, asked: dict[str, list[Watch]]) -> dict[str, SessionInfo]:
        """The same, of a storage that knows sessions by their ids only."""
        found = {}
        for key, watches in asked.items():
            if (id := watches[0].session.state.id) is None:
                continue
            info = await self._storage.info(id)
            if info is None and (moved := await self._storage.successor(id)) is not None:
                info = moved.info
            if info is not None:
                found[key] = info
        return found

    def _judge(self, watch: Watch, info: SessionInfo | None) -> None:
        """End a connection unless its session lives and has the same subject."""
        if info is not None and info.subject == watch.subject:
            self._unlist(watch)
            watch.follow(info)
            self._by_key.setdefault(watch.key, set()).add(watch)
        elif watch.changing and not watch.doubted:
            watch.doubted = True  # its own request may be at it
        else:
            self.discard(watch)
            watch.end()

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            what = error if isinstance(error, SessionError) else type(error).__name__
            logger.warning("the sessions of open connections cannot be looked up, which go on: %s", what)

    def _refresh(self, watch: Watch) -> bool:
        self._unlist(watch)
        changed = watch.refresh()
        self._by_key.setdefault(watch.key, set()).add(watch)
        return changed

    def _unlist(self, watch: Watch) -> None:
        if (same := self._by_key.get(watch.key)) is not None:
            same.discard(watch)
            if not same:
                del self._by_key[watch.key]


_watchers: dict[tuple[asyncio.AbstractEventLoop, int], Watcher] = {}


def watcher_of(storage: ManagedSessionStorage) -> Watcher:
    """The watcher of a storage in the running event loop."""
    key = asyncio.get_running_loop(), id(storage)
    if (watcher := _watchers.get(key)) is None:
        for other in [each for each in _watchers if each[0].is_closed()]:
            _watchers.pop(other, None)
        watcher = _watchers[key] = Watcher(storage)
    return watcher


def notice(storage: ManagedSessionStorage, keys: Collection[str] | None) -> None:
    """Have the watchers of a storage in this process ask for sessions at once that an integration ended; None is all."""
    if _watchers:
        for key, watcher in list(_watchers.items()):
            if key[1] == id(storage):
                watcher.notice(keys)


def _expiry(info: SessionInfo | None) -> int | None:
    return None if info is None or info.expires_at is None else from_datetime(info.expires_at)
