"""A request's session from the id that it came with to the headers of its response."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ...errors import SessionNotFound
from ...storage import DEFAULT, ManagedSessionStorage, new_session_id
from .arguments import checked_storage, default_ttl, touch_every
from .candidates import candidate_ids, load_live
from .changing import Changing
from .clients import ClientInfo, checked_client_info
from .cookies import Cookie, parse_custom_id, parse_id
from .emptied import Emptied
from .headers import ResponseHeaders
from .listing import Listing
from .moves import Moves
from .payloads import Payloads
from .queues import SessionQueues
from .refreshing import Refreshing
from .renewal import Renewal
from .serializers import Serializer
from .session import Session
from .state import UNSET
from .subject_keys import SubjectKey, keyed_subjects
from .timeouts import Timeouts
from .transports import Transports
from .writing import Writer

S = TypeVar("S", bound=Session)


class SessionManager:
    """Opens, loads, commits and ends sessions for an integration.

    Args:
        storage: The storage of the sessions.
        cookie: Name and attributes of the cookie.
        transports: The transports, if there are others than the cookie alone.
        timeouts: How long sessions and their cookies last.
        serializer: Encodes the data; None is JSON.
        rotate_on_login: Whether a session whose subject is set gets a new id.
        new_id: Makes ids, which must be impossible to guess.
        refresh: Whether a request that only reads a session extends it.
        is_empty: Whether a session's data is not worth storing; by default if there are no keys.
        is_persistent: Whether the cookie of a session that has no expiry of its own outlasts the browser;
            by default as the timeouts say.
        subject_key: The key of a session's data that names its user, or a function that does; None if there is none.
        client_info: Gives what to keep of the client of a request; None is nothing.

    Attributes:
        storage: The storage of the sessions.
        cookie: Name and attributes of the cookie.
        transports: The transports; None if there is the cookie alone.
        parse_id: Gives a value that a request presents back if it could be an id.
        payloads: Encodes and decodes their data.
        headers: Gives the headers of responses.
        writer: Writes single sessions.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        cookie: Cookie,
        *,
        timeouts: Timeouts,
        transports: Transports | None = None,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        new_id: Callable[[], str] = new_session_id,
        refresh: bool = True,
        is_empty: Callable[[dict[str, Any]], bool] = lambda data: not dict.__len__(data),
        is_persistent: Callable[[Session], bool] | None = None,
        subject_key: SubjectKey | None = None,
        client_info: ClientInfo | None = None,
    ) -> None:
        self.storage = checked_storage(storage)
        self.cookie = cookie
        self.transports = transports
        self.payloads = Payloads(serializer, storage)
        self._clock = getattr(storage, "clock", time.time)
        self._timeouts = timeouts.over(default_ttl(storage))
        self._rotate_on_login = rotate_on_login
        self.parse_id = parse_id if new_id is new_session_id else parse_custom_id
        self._refresh = refresh
        self._is_empty = is_empty
        self._is_emptied = Emptied(is_empty, self.payloads)
        self.headers = ResponseHeaders(
            cookie,
            is_persistent or timeouts.persistent,
            self._clock,
            ("Cookie",) if transports is None else transports.vary,
        )
        self._renewal = Renewal(self._timeouts, default_ttl(storage), self._clock, touch_every(storage))
        self._moves = Moves(storage, self.payloads, self._is_emptied)
        self._keyed = keyed_subjects(subject_key)
        self.client_info = checked_client_info(client_info)
        queues = SessionQueues()
        self.writer = Writer(
            storage,
            payloads=self.payloads,
            headers=self.headers,
            renewal=self._renewal,
            timeouts=self._timeouts,
            moves=self._moves,
            queues=queues,
            is_emptied=self._is_emptied,
            new_id=new_id,
            refresh=refresh,
        )
        self.listing = Listing(storage)
        self.refresh = Refreshing(self.payloads, self._moves, self)
        self.changing = Changing(self.payloads, self._moves, queues, self, self.writer.write_over, is_empty)

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
        ids = candidate_ids(values, self.parse_id) if values else ()
        session = kind.lazy(ids, load, self._clock)
        if values and not ids:
            session.state.stale = any(value is not None for value in values)
        return session

    async def load(self, session: Session) -> None:
        """Read the session, unless that was done.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        state = session.state
        if session.loaded or state.from_cookie is None:
            return
        found = await load_live(self.storage, state.candidates, self.payloads.read)
        if found is None:
            await self._moves.not_found(session)
        if found is None or session.loaded:  # by another task of the request
            return
        state.from_cookie, snapshot, stored = found
        state.id, session.info, state.raw = state.from_cookie, snapshot.info, snapshot.data
        session.fill(self.payloads.take(stored, state))
        if self._keyed is not None:
            self._keyed.note(session)

    async def commit(self, session: Session) -> None:
        """Write the changes, if any; may be called again after further ones.

        Raises:
            StorageUnavailable: If it could not be written; the response must not report success.
            InvalidArgumentType: If its data is of a type that cannot be encoded.
            InvalidArgument: If its data cannot be encoded for another reason.
            SessionTooLarge: If it is too large for the storage.
        """
        state = session.state
        if not session.is_in_use:
            return
        for source in state.sources:
            session.update(source(session))
        if self._keyed is not None:
            self._keyed.apply(session)
        empty = (not state.id or state.cleared) and session.subject is None and self._is_empty(session)
        if empty and (state.ending or (state.cleared and (state.id or state.moved))):
            await self.end(session)
        elif state.ending is not None:
            await self._begin_after(session, state.ending, logout=True)
        elif state.id is not None:  # and it was cleared
            await self._update(session)
        elif session.logs_in or not (empty or state.moved or state.ended):
            await self.writer.create(session)
        elif (state.moved or state.ended) and not empty:
            self._moves.drop(session)
        elif state.stale:
            state.clear_due, state.stale = True, False

    async def end(self, session: Session) -> None:
        """End the session now; it is not read for that. The next response deletes its cookie.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        session.invalidate()
        state = session.state
        if state.ending is not None:
            state.clear_due = await self._moves.end_all(state, state.ending, *state.candidates)
            await self._moves.end_followed(state)
            state.ending, state.candidates = None, ()

    async def replace(self, old: Session, new: Session) -> None:
        """Write a session in the place of another, which ends.

        Raises:
            StorageUnavailable: If that could not be done.
        """
        if self._keyed is not None:
            self._keyed.apply(new)
        if old.state.from_cookie is not None and (new.logs_in or not self._is_empty(new)):
            self.payloads.encode(new.plain(), new.state)  # or raise before the old one ends
            await self._begin_after(new, old.state.from_cookie, logout=new.logs_in)
            for other in old.state.candidates:
                if other != old.state.from_cookie:
                    await self.storage.invalidate(other)
            return
        await self.commit(new)
        await self.end(old)
        await self.commit(old)  # which clears a stale cookie
        new.state.clear_due = new.state.id is None and old.state.clear_due

    async def _begin_after(self, session: Session, ended: str, *, logout: bool) -> None:
        """End the session of an id, and store another in its place; a logout also ends one that was moved."""
        state = session.state
        try:
            await self.writer.supersede(session, ended)
        except SessionNotFound:
            # A login that is submitted twice leaves the session of the first time alone.
            late = logout and await self._moves.end(state, ended, spare=session.subject) is None
            if late and not session.logs_in:
                state.ending = None
                self._moves.drop(session)
            else:
                await self.writer.create(session)
        if logout:
            await self._moves.end_followed(state)
            await self._moves.end_all(state, *(id for id in state.candidates if id != ended))

    async def _update(self, session: Session) -> None:
        """Write a stored session as far as it changed, or extend it."""
        state, info, data = session.state, session.info, session.plain()
        assert state.id is not None
        assert info is not None
        payload = self.payloads.encode(data, state)
        unchanged = self.payloads.unchanged(payload, state, assigned=session.modified)
        state.emptied = not unchanged and self._is_emptied(session, data)
        renews = self.headers.is_persistent(session) and self._renewal.is_write_due(state, info)
        renamed = session.subject_changed or session.labels_changed
        writes = state.cleared or renamed or not unchanged or (renews and self._refresh)
        login = state.subject is not UNSET and not state.adopts and self._rotate_on_login
        rotates = state.regenerating or state.cleared or login
        if not state.vanished:
            try:
                if state.expiry_dropped and state.ttl is UNSET and self._timeouts.idle is DEFAULT:
                    # A write would keep the timeout of its own: only a new session gets the storage's.
                    return await self.writer.supersede(session, state.id)
                if rotates:
                    await self.writer.rotate(session)
                if writes:
                    await self.writer.write(session, data, payload)
                else:
                    await self.writer.extend(session, renews=renews)
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
            await self.writer.create(session)
