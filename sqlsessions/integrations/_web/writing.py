"""Writing a session: as a new one, over the version that was read, or only extended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import InvalidArgument, SessionConflict, SessionNotFound
from ...info import SessionInfo, Snapshot
from ...storage import DEFAULT, KEEP, ManagedSessionStorage
from .clients import names_for
from .cookies import parse_custom_id
from .emptied import ENDED, Emptied
from .headers import ResponseHeaders
from .merging import LONGEST_WAIT, write_merged
from .moves import Moves
from .payloads import Changes, Payloads
from .queues import SessionQueues
from .renewal import Renewal
from .session import Session
from .state import UNSET
from .timeouts import SECOND, Timeouts
from .unreadable import load_intact


class Writer:
    """Makes the calls of the storage that write a session, and notes their effects.

    Args:
        storage: The storage of the sessions.
        payloads: Encodes and decodes their data.
        headers: Tells whether a cookie outlasts the browser.
        renewal: Decides what is worth a write.
        timeouts: How long sessions last.
        moves: Tells what a request has changed.
        queues: Where writes of one session wait for each other after a conflict.
        is_emptied: Tells whether a request emptied its session.
        new_id: Makes ids.
        refresh: Whether a request that only reads a session extends it.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        payloads: Payloads,
        headers: ResponseHeaders,
        renewal: Renewal,
        timeouts: Timeouts,
        moves: Moves,
        queues: SessionQueues,
        is_emptied: Emptied,
        new_id: Callable[[], str],
        refresh: bool,
    ) -> None:
        self._storage = storage
        self._payloads = payloads
        self._headers = headers
        self._renewal = renewal
        self._timeouts = timeouts
        self._moves = moves
        self._queues = queues
        self._is_emptied = is_emptied
        self._new_id = new_id
        self._refresh = refresh

    async def create(self, session: Session, id: str | None = None) -> None:
        """Store a new session, under a given id or else one that is made.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        state = session.state
        state.cookie_until = UNSET
        id = self._fresh_id() if id is None else id
        payload = self._payloads.encode(session.plain(), state)
        session.info = await self._write(session, id, payload, None)
        state.begin(id, payload)

    async def supersede(self, session: Session, ended: str) -> None:
        """End the session of an id so that this leads to another one, which begins.

        Raises:
            SessionNotFound: If the session of the id is gone.
        """
        new_id = self._fresh_id()
        await self._storage.rotate(ended, new_id)
        await self._storage.invalidate(new_id)
        await self.create(session, new_id)

    async def rotate(self, session: Session) -> None:
        """Give the session a new id.

        Raises:
            SessionNotFound: If it is gone.
        """
        state = session.state
        assert state.id is not None
        assert session.info is not None
        info = await self._storage.rotate(state.id, new_id := self._fresh_id())
        state.id, state.cookie_due = new_id, True
        # The version stays the one that was read, so that concurrent writes are noticed.
        session.info = replace(info, version=session.info.version)
        state.regenerating = False

    async def write(self, session: Session, data: dict[str, Any], payload: bytes) -> None:
        """Write the session over the version that was read, merged with what other requests wrote since.

        Args:
            session: The session.
            data: Its data.
            payload: The bytes of that, unless they are to note the end of the cookie.

        Raises:
            SessionNotFound: If it is gone.
        """
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        if self._note_cookie(session, info):
            payload = self._payloads.encode(data, state)
        try:
            session.info = await self._write(session, state.id, payload, info)
        except SessionConflict:
            changes = self._moves.changes(session)
            async with self._queues.turn(info.key, LONGEST_WAIT):  # one process need not conflict
                await self._merge(session, state.id, changes)
        else:
            state.stored(payload)

    async def write_over(self, session: Session, id: str, data: dict[str, Any], over: SessionInfo) -> bytes:
        """Write data over a version of the session; gives its bytes.

        Raises:
            SessionConflict: If the session has another version.
        """
        self._note_cookie(session, over)
        payload = self._payloads.encode(data, session.state)
        session.info = await self._write(session, id, payload, over)
        return payload

    async def extend(self, session: Session, *, renews: bool) -> None:
        """Extend a session that was accessed, if that is worth a write; or only renew its cookie.

        Raises:
            SessionNotFound: If it is gone.
        """
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        if not self._refresh:
            noted = await self.note_use(session)
            if renews and not noted and await self._storage.info(state.id) is None:
                raise SessionNotFound("the session ended meanwhile")
            state.cookie_due |= renews
            return
        if not self._renewal.is_touch_due(state, info):
            return
        if (touched := await self._storage.touch(state.id)) is None:
            raise SessionNotFound("the session ended meanwhile")
        state.cookie_due |= touched.expires_at != info.expires_at and self._headers.is_persistent(session)
        session.info = replace(touched, version=info.version)

    def is_use_due(self, session: Session) -> bool:
        """Whether to note that a session was read which that does not extend."""
        return session.info is not None and self._renewal.is_use_due(session.info)

    async def note_use(self, session: Session) -> bool:
        """Note that a session was read, if that is due, and extend it by nothing; whether it was noted.

        Raises:
            SessionNotFound: If it is gone.
        """
        state, info = session.state, session.info
        if state.id is None or info is None or not self.is_use_due(session):
            return False
        if (touched := await self._storage.touch(state.id, ttl=KEEP)) is None:
            raise SessionNotFound("the session ended meanwhile")
        session.info = replace(touched, version=info.version)
        return True

    async def _merge(self, session: Session, id: str, changes: Changes) -> None:
        """Make the changes to the session as it is stored by now."""
        state = session.state

        def merge(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
            if snapshot.data == ENDED:
                raise SessionNotFound("the session is being ended")
            data = self._payloads.decode(snapshot, state)
            if state.adopts and snapshot.info.subject is not None:
                state.subject = UNSET
            self._note_cookie(session, snapshot.info)
            others = session.logs_in and snapshot.info.subject not in (None, session.subject)
            merged = session.plain() if others else changes.apply(data)
            state.emptied = self._is_emptied(session, merged)
            return self._payloads.encode(merged, state), merged

        async def write(payload: bytes, snapshot: Snapshot) -> SessionInfo:
            return await self._write(session, id, payload, snapshot.info)

        session.info, payload, merged = await write_merged(
            lambda: load_intact(self._storage, id), merge, write
        )
        state.stored(payload)
        session.fill(merged)

    def _note_cookie(self, session: Session, info: SessionInfo) -> bool:
        return self._renewal.note_cookie(session.state, info, persistent=self._headers.is_persistent(session))

    async def _write(
        self, session: Session, id: str, payload: bytes, over: SessionInfo | None
    ) -> SessionInfo:
        """Write the data over a version of a session, or as a new one."""
        state, new = session.state, over is None
        idle: Any = self._renewal.idle_to_write(state, over, session.subject)
        absolute = self._timeouts.absolute
        info = await self._storage.write_bytes(
            id,
            ENDED if state.emptied and not new else payload,
            ttl=idle if idle in (DEFAULT, None) else idle / SECOND,
            max_age=absolute / SECOND if new and absolute is not None else DEFAULT,
            subject=session.subject if new or session.subject_changed else KEEP,
            if_match=0 if over is None else over.version,
            **names_for(session, over),
        )
        if over is not None:
            due = self._headers.is_persistent(session) and self._renewal.is_cookie_due(state, over, info)
            state.cookie_due = state.cookie_due or state.cookie_requested or due
        return info

    def _fresh_id(self) -> str:
        if (id := parse_custom_id(self._new_id())) is None:
            raise InvalidArgument("an id must consist of 1 to 4,096 characters that a cookie can hold")
        return id
