"""A request's session from the cookie that it came with to the headers of its response."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar

from ...errors import InvalidArgument, SessionConflict, SessionNotFound, UnsupportedOperation
from ...info import SessionInfo, Snapshot
from ...records import duration
from ...storage import DEFAULT, KEEP, Duration, ManagedSessionStorage, new_session_id
from .arguments import checked_storage, required_subject
from .candidates import candidate_ids, load_live
from .changing import Changing, Data
from .cookies import Cookie, parse_custom_id, parse_id
from .emptied import ENDED, Emptied
from .headers import ResponseHeaders
from .merging import LONGEST_WAIT, write_merged
from .moves import Moves
from .payloads import Changes, Payloads
from .queues import SessionQueues
from .renewal import Renewal
from .serializers import Serializer
from .session import UNSET, Session

S = TypeVar("S", bound=Session)

SECOND = 1_000_000

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
        rotate_on_login: Whether a session whose subject is set gets a new id.
        new_id: Makes ids, which must be impossible to guess.
        refresh: Whether a request that only reads a session extends it.
        is_empty: Whether a session's data is not worth storing; by default if there are no keys.
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
        is_empty: Callable[[dict[str, Any]], bool] = lambda data: not dict.__len__(data),
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
        self._is_emptied = Emptied(is_empty, self._payloads)
        self.headers = ResponseHeaders(cookie, self._max_age, is_persistent, self._clock)
        self._renewal = Renewal(self._max_age, self._absolute, self._clock)
        self._moves = Moves(storage, self._payloads, self._is_emptied)
        self._queues = SessionQueues()
        self.changing = Changing(self._payloads, self._moves, self._queues, self, self._store, is_empty)

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
        if found is None:
            await self._moves.not_found(session)
        if found is None or session.loaded:  # by another task of the request
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
        if not session.loaded or not (session.accessed or state.sources):
            return
        for source in state.sources:
            session.update(source(session))
        empty = (not state.id or state.cleared) and session.subject is None and self._is_empty(session)
        if empty and (state.ending or (state.cleared and (state.id or state.moved))):
            await self.end(session)
        elif state.ending is not None:
            await self._begin_after(session, state.ending, logout=True)
        elif state.id is not None:  # and it was cleared
            await self._update(session)
        elif session.logs_in or not (empty or state.moved):
            await self.create(session)
        elif state.moved and not empty:
            self._moves.drop(session)
        elif state.stale:
            state.clear_due, state.stale = True, False

    async def create(self, session: Session, id: str | None = None) -> None:
        """Store a new session, even an empty one, under a given id or else one that is made.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        state = session.state
        id = self._fresh_id() if id is None else id
        payload = self._payloads.encode(session.plain(), state)
        session.info = await self._write(session, id, payload, if_match=0)
        state.begin(id, payload)

    async def end(self, session: Session) -> None:
        """End the session now; it is not read for that. The next response deletes its cookie.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        session.invalidate()
        state = session.state
        if state.ending is not None:
            await self._moves.end_all(state.ending, *state.candidates)
            state.ending, state.clear_due, state.candidates = None, True, ()

    async def replace(self, old: Session, new: Session) -> None:
        """Write a session in the place of another, which ends.

        Raises:
            StorageUnavailable: If that could not be done.
        """
        if old.state.from_cookie is not None and (new.logs_in or not self._is_empty(new)):
            self._payloads.encode(new.plain(), new.state)  # or raise before the old one ends
            await self._begin_after(new, old.state.from_cookie, logout=new.logs_in)
            for other in old.state.candidates:
                if other != old.state.from_cookie:
                    await self.storage.invalidate(other)
            return
        await self.commit(new)
        await self.end(old)
        await self.commit(old)  # which clears a stale cookie
        new.state.clear_due = new.state.id is None and old.state.clear_due

    def listed(self, session: Session) -> AsyncIterator[SessionInfo]:
        """The live sessions of its subject, the newest first.

        Raises:
            InvalidArgument: If it has no subject.
        """
        return self.storage.sessions(required_subject(session))

    async def end_others(self, session: Session) -> int:
        """End all sessions of its subject but this one; the number of them."""
        return await self.storage.revoke(required_subject(session), keep=session.state.id)

    async def end_listed(self, session: Session, key: str) -> bool:
        """End one of its subject's sessions by its `SessionInfo.key`; whether there was one."""
        subject = required_subject(session)
        try:
            found = (await self.storage.infos([key])).get(key)
        except UnsupportedOperation:
            found = None
            async for info in self.listed(session):
                if info.key == key:
                    found = info
                    break
        return found is not None and found.subject == subject and await self.storage.invalidate_key(key)

    async def _begin_after(self, session: Session, ended: str, *, logout: bool) -> None:
        """End the session of an id, and store another in its place; a logout also ends one that was moved."""
        try:
            await self._supersede(session, ended)
        except SessionNotFound:
            if logout:  # but a login that is submitted twice leaves the session of the first time alone
                await self._moves.end(ended, spare=session.subject)
            await self.create(session)
        if logout:
            await self._moves.end_all(*(id for id in session.state.candidates if id != ended))

    async def _supersede(self, session: Session, ended: str) -> None:
        """End the session of an id so that this leads to another one, which begins."""
        new_id = self._fresh_id()
        await self.storage.rotate(ended, new_id)
        await self.storage.invalidate(new_id)
        await self.create(session, new_id)

    async def _update(self, session: Session) -> None:
        """Write a stored session as far as it changed, or extend it."""
        state, data = session.state, session.plain()
        assert state.id is not None
        payload = self._payloads.encode(data, state)
        state.emptied = self._is_emptied(session, data)
        unchanged = self._payloads.unchanged(payload, state)
        renews = self._renews(session)
        writes = state.cleared or session.subject_changed or not unchanged or (renews and self._refresh)
        login = state.subject is not UNSET and self._rotate_on_login
        rotates = state.regenerating or state.cleared or login
        if not state.vanished:
            try:
                if state.expiry_dropped and state.ttl is UNSET and self._max_age is None:
                    # A write would keep the timeout of its own: only a new session gets the storage's.
                    return await self._supersede(session, state.id)
                if rotates:
                    await self._rotate(session)
                if writes:
                    if self._note_cookie(session, session.info):
                        payload = self._payloads.encode(data, state)
                    await self._write_over(session, payload)
                elif not rotates:
                    await self._extend(session, renews=renews)
                if state.emptied:
                    await self.end(session)
                return state.settle()
            except SessionNotFound:
                # Another request ended it, or changed its id, and its response has the cookie.
                state.vanished, state.cookie_due = True, False
        return await self._write_late(session) if writes or rotates else None

    async def _write_late(self, session: Session) -> None:
        """Write what may be kept of changes to a session that is gone."""
        anew = await self._moves.resolve(session)
        if session.state.emptied or (anew and session.subject is None and self._is_empty(session)):
            await self.end(session)
        elif anew:
            await self.create(session)

    async def _rotate(self, session: Session) -> None:
        state = session.state
        assert state.id is not None
        assert session.info is not None
        info = await self.storage.rotate(state.id, new_id := self._fresh_id())
        state.id, state.cookie_due = new_id, True
        # The version stays the one that was read, so that concurrent writes are noticed.
        session.info = replace(info, version=session.info.version)
        state.regenerating = False

    async def _write_over(self, session: Session, payload: bytes) -> None:
        """Write the data, merged with what other requests wrote since it was read."""
        state = session.state
        assert state.id is not None
        assert session.info is not None
        try:
            session.info = await self._write(session, state.id, payload, if_match=session.info.version)
        except SessionConflict:
            changes = self._moves.changes(session)
            async with self._queues.turn(session.info.key, LONGEST_WAIT):  # one process need not conflict
                await self._merge(session, state.id, changes)
        else:
            state.stored(payload)
        state.cookie_due |= (
            state.expiry_requested or state.cookie_requested or self.headers.is_persistent(session)
        )

    async def _merge(self, session: Session, id: str, changes: Changes) -> None:
        """Make the changes to the session as it is stored by now."""
        state = session.state

        def merge(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
            if snapshot.data == ENDED:
                raise SessionNotFound("the session is being ended")
            _, data = self._payloads.decode(snapshot.data, state)
            self._note_cookie(session, snapshot.info)
            others = session.logs_in and snapshot.info.subject not in (None, session.subject)
            merged = session.plain() if others else changes.apply(data)
            state.emptied = self._is_emptied(session, merged)
            return self._payloads.encode(merged, state), merged

        async def write(payload: bytes, snapshot: Snapshot) -> SessionInfo:
            return await self._write(session, id, payload, if_match=snapshot.info.version)

        session.info, payload, merged = await write_merged(lambda: self.storage.load(id), merge, write)
        state.stored(payload)
        session.fill(merged)

    async def _store(self, session: Session, id: str, data: Data, over: SessionInfo) -> bytes:
        """Write data that a function changed over a version of the session; gives its bytes."""
        self._note_cookie(session, over)
        payload = self._payloads.encode(data, session.state)
        session.info = await self._write(session, id, payload, if_match=over.version)
        session.state.cookie_due |= self.headers.is_persistent(session)
        return payload

    def _renews(self, session: Session) -> bool:
        """Whether the cookie is to be renewed although the session did not change."""
        state, info = session.state, session.info
        assert info is not None
        return self.headers.is_persistent(session) and self._renewal.is_write_due(state, info)

    def _note_cookie(self, session: Session, info: SessionInfo | None) -> bool:
        assert info is not None
        return self._renewal.note_cookie(session.state, info, persistent=self.headers.is_persistent(session))

    async def _extend(self, session: Session, *, renews: bool) -> None:
        """Extend a session that was accessed, if that is worth a write; or only renew its cookie."""
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        if not self._refresh:
            if renews and await self.storage.info(state.id) is None:
                raise SessionNotFound("the session ended meanwhile")
            state.cookie_due |= renews
            return
        if not self._renewal.is_touch_due(state, info):
            return
        if (touched := await self.storage.touch(state.id)) is None:
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
            ENDED if state.emptied and not new else payload,
            ttl=idle if idle in (DEFAULT, None) else idle / SECOND,
            max_age=self._absolute / SECOND if new and self._absolute is not None else DEFAULT,
            subject=session.subject if new or session.subject_changed else KEEP,
            if_match=if_match,
        )

    def _fresh_id(self) -> str:
        if (id := parse_custom_id(self._new_id())) is None:
            raise InvalidArgument("an id must consist of 1 to 4,096 characters that a cookie can hold")
        return id
