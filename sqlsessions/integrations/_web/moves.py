"""Requests whose session got another id, or ended, while they were under way."""

from __future__ import annotations

import logging
from typing import Any

from ...errors import SessionConflict, SessionNotFound, StorageUnavailable, UnsupportedOperation
from ...info import SessionInfo, Snapshot
from ...records import digest
from ...storage import ManagedSessionStorage
from .emptied import ENDED, Emptied
from .merging import ATTEMPTS, write_merged
from .payloads import Changes, Payloads
from .session import UNSET, Session, State

logger = logging.getLogger("sqlsessions")


class Moves:
    """Resolves what becomes of requests that come late: with an id that was changed, or after its end.

    The storage tells for a minute where a session went whose id was changed, to every process. It is asked
    only once an id was not found: a request whose session is there costs nothing more. Until then, only
    another response can give the browser the new id, so that such a request leaves the cookie alone.

    Args:
        storage: The storage of the sessions.
        payloads: Encodes and decodes their data.
        is_emptied: Tells whether a request emptied its session.
    """

    def __init__(self, storage: ManagedSessionStorage, payloads: Payloads, is_emptied: Emptied) -> None:
        self._storage = storage
        self._payloads = payloads
        self._is_emptied = is_emptied

    async def not_found(self, session: Session, id: str) -> None:
        """Note that the id of the cookie was not found: it was changed, or its session is gone."""
        moved = await self._storage.successor(id) is not None
        if not session.loaded:  # by another task of the request
            session.state.moved, session.state.stale = moved, not moved
            session.fill({})

    async def end(self, id: str, *, spare: str | None = None) -> None:
        """End a session, and the one that it was moved to.

        Args:
            id: Its id.
            spare: The user whose session stays if it was moved to that one.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        # First the id, then its successor: a session that is moved in between is found at its new id.
        key = digest(id).hex()
        for _ in range(ATTEMPTS):
            if await self._storage.invalidate_key(key):
                return
            moved = await self._storage.successor(id)
            if moved is None or moved.info is None or (spare is not None and moved.info.subject == spare):
                return
            key = moved.key
        raise StorageUnavailable(f"the session got a new id during each of {ATTEMPTS} attempts to end it")

    async def resolve(self, session: Session) -> bool:
        """Keep of the changes to a session that is not found any more what may be kept.

        The login of a user begins a session of its own. Changes to a session that got a new id follow it
        there, unless another user has it now. Those to a session that ended are dropped. In the state,
        ``emptied`` says afterwards whether the session is to be ended, with the one that it was moved to.

        Returns:
            Whether the data is to be stored as a new session.
        """
        state, info = session.state, session.info
        assert state.id is not None
        assert info is not None
        moved = await self._storage.successor(state.id)
        state.moved = lives = moved is not None and moved.info is not None
        state.emptied = False
        if session.logs_in:
            if not lives and not state.cleared:  # what ended does not come back
                session.fill(self.changes(session).apply({}))
            return True
        if lives and info.subject is not None and session.subject is None:  # a logout
            await self.end(state.id)
            return True
        changes = self.changes(session)
        asked = changes or state.expiry_requested
        if asked and not (lives and await self._follow(session, state.id, info.subject, changes)):
            self.drop(session)
        return False

    async def load(self, id: str, subject: str | None) -> Snapshot | None:
        """The session that an id was moved to; None if there is none, or another user has it.

        Raises:
            SessionConflict: If it was moved again in between.
        """
        moved = await self._storage.successor(id)
        if moved is None or moved.info is None or moved.info.subject != subject:
            return None
        try:
            snapshot = await self._storage.load_key(moved.key)
        except UnsupportedOperation:
            return None
        if snapshot is None or snapshot.data == ENDED:
            raise SessionConflict("the session was moved again, or ended")
        return snapshot if snapshot.info.subject == subject else None

    def drop(self, session: Session) -> None:
        """Log that what a request changed is lost; once for a request."""
        if session.state.drop_logged:
            return
        session.state.drop_logged = True
        why = "got another id" if session.state.moved else "ended"
        logger.warning("a session %s while a request was under way: its changes are dropped", why)

    async def _follow(self, session: Session, id: str, subject: str | None, changes: Changes) -> bool:
        """Make changes to the session that the id was moved to; whether it has the same subject."""
        state, own = session.state, State()

        async def load() -> Snapshot | None:
            return await self.load(id, subject)

        def merge(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
            own.ttl, own.browser = UNSET, None
            _, data = self._payloads.decode(snapshot.data, own)
            merged = changes.apply(data)
            state.emptied = self._is_emptied(session, merged)
            return ENDED if state.emptied else self._payloads.encode(merged, own), merged

        async def write(payload: bytes, snapshot: Snapshot) -> SessionInfo:
            key, version = snapshot.info.key, snapshot.info.version
            return await self._storage.write_key(key, payload, if_match=version)

        try:
            _, payload, merged = await write_merged(load, merge, write)
        except SessionNotFound:
            state.emptied = False
            return False
        if state.emptied:
            return True
        if (
            state.expiry_requested
            and not state.cleared
            and (own.ttl, own.browser) != (state.ttl, state.browser)
        ):
            self.drop(session)  # a write by key leaves the expiry as it is
        session.fill(merged)
        state.ttl, state.browser = own.ttl, own.browser
        state.stored(payload)
        state.settle()
        return True

    def changes(self, session: Session) -> Changes:
        """What a request has changed since it read the session, or wrote it."""
        state, data = session.state, session.plain()
        if state.cleared:
            return Changes(replaced=True, assigned=data)
        return self._payloads.changes(state.raw, data, state.sources)
