"""A request's session from the cookie that it came with to the headers of its response."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ...errors import (
    InvalidArgument,
    SessionConflict,
    SessionNotFound,
    StorageUnavailable,
    UnsupportedOperation,
)
from ...info import SessionInfo
from ...records import digest, duration
from ...storage import DEFAULT, KEEP, Duration, ManagedSessionStorage, new_session_id
from .arguments import checked_storage
from .candidates import candidate_ids, load_live
from .cookies import Cookie, parse_custom_id, parse_id
from .headers import ResponseHeaders
from .payloads import Changes, Payloads
from .renewal import Renewal
from .rotations import Rotations
from .serializers import Serializer
from .session import UNSET, Session, State

S = TypeVar("S", bound=Session)

SECOND = 1_000_000
ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds

logger = logging.getLogger("sqlsessions")


class SessionManager:
    """Opens, loads, commits and ends sessions for an integration.

    Args:
        storage: The storage of the sessions.
        cookie: Name and attributes of the cookie.
        max_age: Idle timeout of new sessions and age of the cookie; with None the storage's own timeout
            holds, and the cookie ends when the browser is closed.
        absolute_timeout: Their absolute timeout; with None the storage's own holds.
        serializer: Encodes the data; None is JSON.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        new_id: Makes ids, which must be impossible to guess.
        refresh: Whether a request that only reads a session extends it.
        is_empty: Whether a session holds no data that is worth storing; by default one without keys.
        is_persistent: Whether the cookie of a session that has no expiry of its own outlasts the browser;
            by default if there is a ``max_age``.

    Attributes:
        storage: The storage of the sessions.
        cookie: Name and attributes of the cookie.
        headers: Gives the headers of responses.

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
        refresh: bool = True,
        is_empty: Callable[[Session], bool] = lambda session: not dict.__len__(session),
        is_persistent: Callable[[Session], bool] | None = None,
    ) -> None:
        self.storage = checked_storage(storage)
        self.cookie = cookie
        self._payloads = Payloads(serializer)
        self._clock = getattr(storage, "clock", time.time)
        self._max_age = duration("max_age", max_age)
        self._absolute = duration("absolute_timeout", absolute_timeout)
        self._rotate_on_login = rotate_on_login
        self._new_id = new_id
        self._parse_id = parse_id if new_id is new_session_id else parse_custom_id
        self._refresh = refresh
        self._is_empty = is_empty
        self.headers = ResponseHeaders(cookie, self._max_age, is_persistent, self._clock)
        self._rotations = Rotations(self._clock)
        self._renewal = Renewal(self._max_age, self._absolute, self._clock)
        self._locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    def open(self, *values: str | None, load: Callable[[Session], None] | None = None) -> Session:
        """The session of a request; nothing is read yet.

        Args:
            values: Values of the session cookies that the request came with, of which browsers may send
                several. None is no cookie.
            load: Loads a session that is accessed, or raises.
        """
        return self.open_as(Session, *values, load=load)

    def open_as(self, kind: type[S], *values: str | None, load: Callable[[Session], None] | None = None) -> S:
        """`open`, for a class of sessions of the integration's own."""
        session = kind.lazy(candidate_ids(values, self._parse_id), load)
        session.state.stale = session.loaded and any(value is not None for value in values)
        return session

    async def load(self, session: Session) -> None:
        """Read the session, unless that was done.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        state = session.state
        if session.loaded or state.from_cookie is None:
            return
        found = await load_live(self.storage, state.candidates)
        if session.loaded:  # by another task of the request
            return
        if found is None:
            state.stale = True
            session.fill({})
            return
        state.from_cookie, snapshot = found
        state.id, session.info = state.from_cookie, snapshot.info
        state.raw, data = self._payloads.decode(snapshot.data, state)
        session.fill(data)

    async def commit(self, session: Session) -> None:
        """Write the changes, if any; may be called again after further ones.

        Raises:
            StorageUnavailable: If it could not be written; the response must not report success.
            InvalidArgumentType: If its data is of a type that cannot be encoded.
            InvalidArgument: If its data cannot be encoded for another reason.
            SessionTooLarge: If it is too large for the storage.
        """
        state = session.state
        if not session.loaded or state.vanished or not (session.accessed or state.sources):
            return
        if state.ending is not None:
            await self._end(state, state.ending)
        for source in state.sources:
            session.update(source())
        if state.id is not None:
            if state.cleared and self._is_empty(session) and not session.subject:
                await self.end(session)
            else:
                await self._update(session)
        elif session.subject_changed or not self._is_empty(session):
            await self.create(session)
        elif state.stale:
            # Unless another response just gave the browser the new cookie of the same session.
            rotated = state.from_cookie and self._rotations.successor(digest(state.from_cookie))
            state.clear_due = rotated is None
            state.stale = False

    async def create(self, session: Session) -> None:
        """Store a new session, even an empty one.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        state = session.state
        id, payload = self._fresh_id(), self._payloads.encode(session.plain(), state)
        session.info = await self._write(session, id, payload, if_match=0)
        state.stored(payload)
        state.id, state.cookie_due, state.clear_due, state.stale = id, True, False, False
        state.settle()

    async def end(self, session: Session) -> None:
        """End the session now; it is not read for that. The next response deletes its cookie.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        session.invalidate()
        if session.state.ending is not None:
            await self._end(session.state, session.state.ending)

    async def replace(self, old: Session, new: Session) -> None:
        """Write a session in the place of another, which ends.

        Raises:
            StorageUnavailable: If that could not be done.
        """
        await self.commit(new)
        ended = old.state.id or old.state.from_cookie
        await self.end(old)
        if ended is not None and new.info is not None:
            # Requests that come with the old id must not clear the new cookie.
            self._rotations.add(digest(ended), new.info.key)
        await self.commit(old)  # which clears a stale cookie
        new.state.clear_due = new.state.id is None and old.state.clear_due

    def listed(self, session: Session) -> AsyncIterator[SessionInfo]:
        """The live sessions of its subject, the newest first.

        Raises:
            InvalidArgument: If it has no subject.
        """
        return self.storage.sessions(_subject(session))

    async def end_others(self, session: Session) -> int:
        """End all sessions of its subject but this one; the number of them."""
        return await self.storage.revoke(_subject(session), keep=session.state.id)

    async def end_listed(self, session: Session, key: str) -> bool:
        """End one of its subject's sessions by its `SessionInfo.key`; whether there was one."""
        subject = _subject(session)
        try:
            found = (await self.storage.infos([key])).get(key)
        except UnsupportedOperation:
            found = None
            async for info in self.listed(session):
                if info.key == key:
                    found = info
                    break
        return found is not None and found.subject == subject and await self.storage.invalidate_key(key)

    async def _end(self, state: State, id: str) -> None:
        await asyncio.gather(*(self.storage.invalidate(each) for each in {id, *state.candidates}))
        # A concurrent login may have given the session a new id meanwhile.
        if (key := self._rotations.successor(digest(id))) is not None:
            await self.storage.invalidate_key(key)
        state.ending, state.clear_due, state.candidates = None, True, ()

    async def _update(self, session: Session) -> None:
        """Write a stored session as far as it changed, or extend it."""
        state, data = session.state, session.plain()
        payload = self._payloads.encode(data, state)
        subject_changed = session.subject_changed
        unchanged = self._payloads.unchanged(payload, state)
        writes = state.cleared or subject_changed or not unchanged or self._renews(session)
        rotates = state.regenerating or state.cleared or (subject_changed and self._rotate_on_login)
        try:
            if rotates:
                await self._rotate(session)
            if writes:
                if self._note_cookie(session, session.info):
                    payload = self._payloads.encode(data, state)
                await self._write_over(session, data, payload)
            elif self._refresh and not rotates:
                await self._touch(session)
        except SessionNotFound:
            # Another request ended it, or changed its id, and its response has the cookie.
            state.vanished = True
            return
        state.settle()

    async def _rotate(self, session: Session) -> None:
        state = session.state
        assert state.id is not None
        assert session.info is not None
        new_id = self._fresh_id()
        info = await self.storage.rotate(state.id, new_id)
        self._rotations.add(digest(state.id), info.key)
        state.id, state.cookie_due = new_id, True
        # The version stays the one that was read, so that concurrent writes are noticed.
        session.info = replace(info, version=session.info.version)
        state.regenerating = False

    async def _write_over(self, session: Session, data: dict[str, Any], payload: bytes) -> None:
        """Write the data, merged with what other requests wrote since it was read."""
        state = session.state
        assert state.id is not None
        assert session.info is not None
        try:
            session.info = await self._write(session, state.id, payload, if_match=session.info.version)
        except SessionConflict:
            if state.cleared:
                changes = Changes(replaced=True, assigned=data)
            else:
                changes = self._payloads.changes(state.raw, data)
            async with self._lock(session.info.key):  # requests of one process need not conflict again
                await self._merge(session, state.id, changes)
        else:
            state.stored(payload)
        state.cookie_due |= (
            state.expiry_requested or state.cookie_requested or self.headers.is_persistent(session)
        )

    async def _merge(self, session: Session, id: str, changes: Changes) -> None:
        """Make the changes to the session as it is stored by now."""
        for attempt in range(ATTEMPTS):
            if (snapshot := await self.storage.load(id)) is None:
                raise SessionNotFound("the session ended meanwhile")
            _, data = self._payloads.decode(snapshot.data, session.state)
            self._note_cookie(session, snapshot.info)
            merged = changes.apply(data)
            payload = self._payloads.encode(merged, session.state)
            try:
                session.info = await self._write(session, id, payload, if_match=snapshot.info.version)
            except SessionConflict:
                await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
            else:
                session.state.stored(payload)
                session.fill(merged)
                return
        raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} writes: try again later")

    def _renews(self, session: Session) -> bool:
        """Whether a session that did not change is written for its cookie's sake."""
        assert session.info is not None
        if not (
            self.headers.is_persistent(session) and self._renewal.is_write_due(session.state, session.info)
        ):
            return False
        session.state.cookie_due = True
        return self._refresh

    def _note_cookie(self, session: Session, info: SessionInfo | None) -> bool:
        assert info is not None
        return self._renewal.note_cookie(session.state, info, persistent=self.headers.is_persistent(session))

    async def _touch(self, session: Session) -> None:
        """Extend a session that was accessed, if that is worth a write."""
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        if not self._renewal.is_touch_due(state, info):
            return
        touched = await self.storage.touch(state.id)
        if touched is None:
            raise SessionNotFound("the session ended meanwhile")
        state.cookie_due = touched.expires_at != info.expires_at and self.headers.is_persistent(session)
        session.info = replace(touched, version=info.version)

    async def _write(self, session: Session, id: str, payload: bytes, *, if_match: int) -> SessionInfo:
        state, new = session.state, if_match == 0
        idle: Any = state.ttl if new or state.expiry_requested else DEFAULT
        if idle is UNSET:
            idle = DEFAULT if self._max_age is None else self._max_age
        return await self.storage.write_bytes(
            id,
            payload,
            ttl=idle if idle in (DEFAULT, None) else idle / SECOND,
            max_age=self._absolute / SECOND if new and self._absolute is not None else DEFAULT,
            subject=session.subject if session.subject_changed else KEEP,
            if_match=if_match,
        )

    def _fresh_id(self) -> str:
        if (id := parse_custom_id(self._new_id())) is None:
            raise InvalidArgument("an id must consist of 1 to 4,096 characters that a cookie can hold")
        return id

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault((id(asyncio.get_running_loop()), key), asyncio.Lock())


def _subject(session: Session) -> str:
    if (subject := session.subject) is None:
        raise InvalidArgument("the session has no subject: set session.subject at login")
    return subject
