"""Loading a request's session, and writing what became of it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from ..errors import (
    InvalidArgument,
    InvalidArgumentType,
    SessionConflict,
    SessionCorrupt,
    SessionNotFound,
    StorageUnavailable,
)
from ..records import digest, duration, from_datetime, microseconds
from ..storage import DEFAULT, KEEP, Duration, ManagedSessionStorage, SessionInfo, new_session_id
from ._changes import Changes
from ._cookies import LONGEST_AGE, Cookie, presented, storable
from ._payloads import Payloads
from ._rotations import Rotations
from ._serializers import Serializer
from ._session import UNSET, Session

logger = logging.getLogger("sqlsessions")

SECOND = 1_000_000
TOUCH_SHARE = 20  # an expiry is extended once that gains a 20th, 5 %, of the idle timeout
ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds


class SessionManager:
    """Loads and writes sessions for an integration.

    Args:
        storage: Where they are.
        cookie: How browsers are told.
        max_age: Idle timeout of new sessions and age of the cookie; None leaves the timeout to the
            storage, and the browser forgets the session when closed.
        absolute_timeout: Their absolute timeout; None leaves it to the storage.
        serializer: Turns data into bytes; None is JSON.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        new_id: Makes ids, which nobody must be able to guess.

    Raises:
        InvalidArgument: If a duration is not above 0 and at most 1,000 years.
        InvalidArgumentType: If an argument is of the wrong type.
    """

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

    def open(self, value: str | None, load: Callable[[Session], None] | None = None) -> Session:
        """A session for a request; nothing is read yet.

        Args:
            value: Of the cookie that the request came with.
            load: Loads a session that is looked at, or raises.
        """
        session = Session.lazy(self._presented(value), load)
        session.state.stale = value is not None and session.loaded
        return session

    async def load(self, session: Session) -> None:
        """Read the session, unless that was done.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        state = session.state
        if session.loaded or state.presented is None:
            return
        try:
            snapshot = await self.storage.load(state.presented)
        except SessionCorrupt:
            logger.warning("a session is damaged in its storage and taken for none")
            snapshot = None
        if session.loaded:  # by another task of the request
            return
        if snapshot is None:
            state.stale = True
            session.fill({})
            return
        state.id, session.info = state.presented, snapshot.info
        state.raw, data = self._payloads.opened(snapshot.data, state)
        session.fill(data)

    async def commit(self, session: Session) -> None:
        """Write what changed, if anything; may be called again after further changes.

        Raises:
            StorageUnavailable: If it could not be written; the answer must not say it was.
            InvalidArgumentType: If its data is of a type that cannot be encoded.
            InvalidArgument: If its data cannot be encoded for another reason.
            SessionTooLarge: If it is too large for the storage.
        """
        state = session.state
        if not session.loaded or state.vanished or not (session.accessed or state.sources):
            return
        for source in state.sources:
            session.update(source())
        if state.id is not None:
            if state.cleared and not dict.__len__(session) and not session.subject:
                await self.end(session)
            else:
                await self._update(session)
        elif dict.__len__(session) or session.subject_changed:
            await self.create(session)
        elif state.stale:
            # Unless another answer just gave the browser the cookie of the same session.
            rotated = state.presented and self._rotations.successor(digest(state.presented))
            state.clear_due = rotated is None
            state.stale = False

    def set_cookie(self, session: Session, *, https: bool) -> str | None:
        """The ``Set-Cookie`` value that the browser needs, if any; it is given once.

        Args:
            session: Committed, or failed to.
            https: Whether the request came by https.
        """
        state = session.state
        if state.clear_due:
            state.clear_due = False
            return self._cookie.clear(https=https)
        if not state.cookie_due or state.id is None or session.info is None:
            return None
        state.cookie_due = False
        max_age: int | None = None
        if self._persistent(session):
            expires_at = session.info.expires_at
            now = microseconds(self._clock)
            max_age = (
                LONGEST_AGE if expires_at is None else math.ceil((from_datetime(expires_at) - now) / SECOND)
            )
        return self._cookie.set(state.id, max_age=max_age, https=https)

    async def end(self, session: Session) -> None:
        """End the session now, and have the browser told.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        await self.load(session)
        state = session.state
        if state.id is not None:
            await self.storage.invalidate(state.id)
            # A login that was under way may have given it a new id meanwhile.
            if (key := self._rotations.successor(digest(state.id))) is not None:
                await self.storage.invalidate_key(key)
            state.clear_due = True
        session.fill({})
        session.info = state.id = state.presented = None
        state.cookie_due = False
        state.written()

    async def replace(self, old: Session, new: Session) -> None:
        """Write a session in the place of another, which ends.

        Raises:
            StorageUnavailable: If that could not be done.
        """
        await self.commit(new)
        await self.load(old)
        ended = old.state.id
        await self.end(old)
        if ended is not None and new.info is not None:
            # Requests that come with the old id must not clear the new cookie.
            self._rotations.add(digest(ended), new.info.key)
        old.mark_accessed()
        await self.commit(old)  # which has a stale cookie cleared

    def listed(self, session: Session) -> AsyncIterator[SessionInfo]:
        """The live sessions of its subject, the newest first; of nobody, none."""
        return self.storage.sessions(_subject(session))

    async def end_others(self, session: Session) -> int:
        """End all sessions of its subject but this one; how many they were."""
        return await self.storage.revoke(_subject(session), keep=session.state.id)

    async def end_listed(self, session: Session, key: str) -> bool:
        """End one of its subject's sessions by the key that a list showed; whether there was one."""
        async for info in self.listed(session):
            if info.key == key:
                return await self.storage.invalidate_key(key)
        return False

    async def create(self, session: Session) -> None:
        """Store a new session, even an empty one.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        state = session.state
        id, payload = self._fresh_id(), self._payloads.sealed(session.plain(), state)
        session.info = await self._write(session, id, payload, if_match=0)
        state.id, state.raw, state.cookie_due, state.stale = id, payload, True, False
        state.written()

    async def _update(self, session: Session) -> None:
        """Write a session that exists, as far as it changed."""
        state, data = session.state, session.plain()
        payload = self._payloads.sealed(data, state)
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
            _, data = self._payloads.opened(snapshot.data, session.state)
            merged = changes.apply(data)
            payload = self._payloads.sealed(merged, session.state)
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
        if state.expiry_asked or (new and state.ttl is not UNSET):
            idle = state.ttl
        elif new and self._max_age is not None:
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


def _subject(session: Session) -> str:
    if (subject := session.subject) is None:
        raise InvalidArgument("the session has no subject: set session.subject at login")
    return subject
