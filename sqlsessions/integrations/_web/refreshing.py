"""Reading a session again, for a connection that outlasts it."""

from __future__ import annotations

from typing import Protocol

from ...errors import SessionConflict, SessionCorrupt, SessionNotFound
from ...info import Snapshot
from ...storage import ManagedSessionStorage
from .emptied import ENDED
from .merging import Attempts
from .moves import Moves
from .payloads import Payloads
from .session import Session
from .state import UNSET, State
from .unreadable import load_intact


class Sessions(Protocol):
    """What `Refreshing` needs of a `SessionManager`."""

    storage: ManagedSessionStorage

    async def load(self, session: Session) -> None:
        """Read a session that was not read."""

    async def commit(self, session: Session) -> None:
        """Write what a request has changed."""


class Refreshing:
    """Reads sessions as they are stored now.

    Args:
        payloads: Decodes their data.
        moves: Finds sessions whose id was changed.
        sessions: The manager of the sessions.
    """

    def __init__(self, payloads: Payloads, moves: Moves, sessions: Sessions) -> None:
        self._payloads = payloads
        self._moves = moves
        self._sessions = sessions

    async def __call__(self, session: Session) -> None:
        """Read a session again; what its request has changed is written first.

        It follows a session with a new id as long as that has the same subject. One that ended, or that another
        subject has, is empty afterwards, and says so by ``ended``.

        Raises:
            StorageUnavailable: If it cannot be read, or written.
        """
        if not session.loaded:
            await self._sessions.load(session)
            return
        await self._sessions.commit(session)
        session.mark_accessed()
        state, info = session.state, session.info
        if info is None or state.id is None:
            return
        try:
            found = await self._find(state, state.id, info.subject)
            state.ttl, state.browser = UNSET, None
            data = self._payloads.decode(found, state)
        except SessionNotFound:
            await self._end(session)
            return
        state.raw, state.raw_is_ours = found.data, False
        if found.info.key != info.key:
            # Its id is known to the other request only, so that it is written by its key from now on.
            state.key, state.vanished, state.cookie_due = found.info.key, True, False
        session.info = found.info
        session.fill(data)

    async def _find(self, state: State, id: str, subject: str | None) -> Snapshot:
        """The session under its id or key, or where it was moved to.

        Raises:
            SessionNotFound: If it is gone.
        """
        storage, attempts = self._sessions.storage, Attempts()
        while True:
            try:
                if state.key is None:
                    found = await load_intact(storage, id)
                else:
                    found = await storage.load_key(state.key)
                if found is None and (found := await self._moves.load(state, subject)) is None:
                    raise SessionNotFound("the session ended, or another user has it")
            except SessionCorrupt as error:
                raise SessionNotFound("the session is damaged") from error
            except SessionConflict:  # it was moved in between
                await attempts.failed()
            else:
                break
        if found.data == ENDED or found.info.subject != subject:
            raise SessionNotFound("the session ended, or another user has it")
        return found

    async def _end(self, session: Session) -> None:
        """Note that a session is gone for this connection."""
        state = session.state
        moved = state.answered or await self._moves.successor(state) is not None
        state.end(stale=not moved)
        session.info = None
        session.fill({})


def require_kept(session: Session) -> None:
    """Check that what was changed could be written.

    Raises:
        SessionNotFound: If the session has ended.
    """
    if session.state.lost or session.state.ended:
        raise SessionNotFound("the session ended, or another user has it: its changes are not stored")
