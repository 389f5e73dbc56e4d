"""Writing what became of a request's session, over what others wrote meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from ...errors import (
    InvalidArgument,
    InvalidArgumentType,
    SessionConflict,
    SessionNotFound,
    StorageUnavailable,
)
from ...info import SessionInfo
from ...records import digest, duration, from_datetime, microseconds
from ...storage import DEFAULT, KEEP, Duration, ManagedSessionStorage, new_session_id
from .changes import Changes
from .cookies import Cookie, presented, storable
from .payloads import Payloads
from .rotations import Rotations
from .serializers import Serializer
from .session import UNSET, Session

SECOND = 1_000_000
TOUCH_SHARE = 20  # an expiry is extended once that gains a 20th, 5 %, of the idle timeout
ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds


class SessionWriter:
    """Creates, changes, rotates and touches sessions; see `SessionManager` for the arguments."""

    def __init__(
        self,
        storage: ManagedSessionStorage,
        cookie: Cookie,
        *,
        max_age: Duration | None,
        absolute_timeout: Duration | None = None,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        new_id: Callable[[], str] = new_session_id,
    ) -> None:
        if not isinstance(storage, ManagedSessionStorage):
            raise InvalidArgumentType(
                f"storage must be a ManagedSessionStorage, such as SqlSessionStorage(url), "
                f"not {type(storage).__name__}"
            )
        self.storage = storage
        self._cookie = cookie
        self._payloads = Payloads(serializer)
        self._clock = getattr(storage, "clock", time.time)
        self._max_age = duration("max_age", max_age)
        self._absolute = duration("absolute_timeout", absolute_timeout)
        self._rotate_on_login = rotate_on_login
        self._new_id = new_id
        self._presented = presented if new_id is new_session_id else storable
        self._rotations = Rotations(self._clock)
        self._locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    async def create(self, session: Session) -> None:
        """Store a new session, even an empty one.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        state = session.state
        id, payload = self._fresh_id(), self._payloads.encode(session.plain(), state)
        session.info = await self._write(session, id, payload, if_match=0)
        state.id, state.raw, state.cookie_due, state.stale = id, payload, True, False
        state.written()

    async def update(self, session: Session) -> None:
        """Write a session that exists, as far as it changed."""
        state, data = session.state, session.plain()
        payload = self._payloads.encode(data, state)
        changed = session.subject_changed or not self._payloads.same(payload, state.raw)
        rotates = state.regenerating or state.cleared or (session.subject_changed and self._rotate_on_login)
        changes: Changes | None = None
        if state.cleared:
            changes = Changes(replaced=True, assigned=data)
        elif changed:
            changes = self._payloads.changes(state.raw, data)
        try:
            if rotates:
                await self._rotate(session)
            if changes is not None:
                await self._merge(session, changes, payload)
            elif not rotates:
                await self._touch(session)
        except SessionNotFound:
            # Ended, or given a new id, by another request: that one's answer tells the browser.
            state.vanished = True
            return
        state.written()

    async def _rotate(self, session: Session) -> None:
        state = session.state
        assert state.id is not None
        assert session.info is not None
        new_id = self._fresh_id()
        info = await self.storage.rotate(state.id, new_id)
        self._rotations.add(digest(state.id), info.key)
        state.id, state.cookie_due = new_id, True
        # The version stays the one that was read, so that what others wrote since is noticed.
        session.info = replace(info, version=session.info.version)
        state.regenerating = False

    async def _merge(self, session: Session, changes: Changes, payload: bytes) -> None:
        """Write the changes over the session as it is by now."""
        state = session.state
        assert state.id is not None
        assert session.info is not None
        try:
            session.info = await self._write(session, state.id, payload, if_match=session.info.version)
        except SessionConflict:
            async with self._lock(session.info.key):  # requests of one process need not conflict again
                await self._merge_again(session, state.id, changes)
        else:
            state.raw = payload
        state.cookie_due = state.cookie_due or state.expiry_asked or self._persistent(session)

    async def _merge_again(self, session: Session, id: str, changes: Changes) -> None:
        for attempt in range(ATTEMPTS):
            if (snapshot := await self.storage.load(id)) is None:
                raise SessionNotFound("the session ended meanwhile")
            _, data = self._payloads.decode(snapshot.data, session.state)
            merged = changes.apply(data)
            payload = self._payloads.encode(merged, session.state)
            try:
                session.info = await self._write(session, id, payload, if_match=snapshot.info.version)
            except SessionConflict:
                await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
            else:
                session.state.raw = payload
                session.fill(merged)
                return
        raise StorageUnavailable("the session is changed by others all the time: try again later")

    async def _touch(self, session: Session) -> None:
        """Extend a session that was looked at, if that is worth a write."""
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        idle: int | None = self._max_age if state.ttl is UNSET else state.ttl
        if info.expires_at is None or (idle is None and state.ttl is not UNSET):
            return
        if idle is None:  # the storage's own, which is at most this
            idle = from_datetime(info.expires_at) - from_datetime(info.updated_at)
        until = microseconds(self._clock) + idle
        if self._absolute is not None:
            until = min(until, from_datetime(info.created_at) + self._absolute)
        if (until - from_datetime(info.expires_at)) * TOUCH_SHARE < idle:
            return
        touched = await self.storage.touch(state.id)
        if touched is None:
            raise SessionNotFound("the session ended meanwhile")
        state.cookie_due = touched.expires_at != info.expires_at and self._persistent(session)
        session.info = replace(touched, version=info.version)

    async def _write(self, session: Session, id: str, payload: bytes, *, if_match: int) -> SessionInfo:
        state, new = session.state, if_match == 0
        idle: Any = UNSET
        if new or state.expiry_asked:
            idle = state.ttl
        if idle is UNSET and (new or state.expiry_asked) and self._max_age is not None:
            idle = self._max_age
        return await self.storage.write_bytes(
            id,
            payload,
            ttl=DEFAULT if idle is UNSET else None if idle is None else idle / SECOND,
            max_age=self._absolute / SECOND if new and self._absolute is not None else DEFAULT,
            subject=session.subject if session.subject_changed else KEEP,
            if_match=if_match,
        )

    def _fresh_id(self) -> str:
        if (id := storable(self._new_id())) is None:
            raise InvalidArgument("an id must consist of 1 to 4,096 characters that a cookie can hold")
        return id

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault((id(asyncio.get_running_loop()), key), asyncio.Lock())

    def _persistent(self, session: Session) -> bool:
        browser = session.state.browser
        return self._max_age is not None if browser is None else not browser
