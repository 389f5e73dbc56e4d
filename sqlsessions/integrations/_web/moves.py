"""Requests whose session got another id, or ended, while they were under way."""

from __future__ import annotations

import logging
from typing import Any

from ...delegating import layers
from ...errors import (
    SessionConflict,
    SessionCorrupt,
    SessionNotFound,
    StorageUnavailable,
    UnsupportedOperation,
)
from ...info import SessionInfo, Snapshot, Successor
from ...storage import ManagedSessionStorage
from .emptied import ENDED, Emptied
from .merging import ATTEMPTS, write_merged
from .payloads import Changes, Payloads
from .session import Session
from .state import UNSET, State
from .unreadable import log_unreadable
from .watching import notice

UNDER_WAY = 10.0
"""Seconds for which a request may be under way to the service, with a difference of clocks."""

logger = logging.getLogger("sqlsessions")


class Moves:
    """Resolves what becomes of requests that come late: with an id that was changed, or after its end.

    The storage tells for a minute where a session went whose id was changed, and which were ended, to every
    process. It is asked only once an id was not found: a request whose session is there costs nothing more.
    Until then, only another response can give the browser the new id, so that such a request leaves the cookie
    alone. So does one that was begun within `UNDER_WAY` after the end of its session: the response to the logout
    has cleared the cookie, and that to the next login may have set another.

    Args:
        storage: The storage of the sessions.
        payloads: Encodes and decodes their data.
        is_emptied: Tells whether a request emptied its session.
    """

    def __init__(self, storage: ManagedSessionStorage, payloads: Payloads, is_emptied: Emptied) -> None:
        self._storage = storage
        self._payloads = payloads
        self._is_emptied = is_emptied
        self._by_id = any(getattr(layer, "finds_by_id", False) for layer in layers(storage))

    async def not_found(self, session: Session) -> None:
        """Note that no id of the cookies was found: one was given up, or the session is gone."""
        state, moved = session.state, None
        for id in reversed(state.candidates):
            if _is_late(state, self._storage.digest(id).hex(), await self._storage.successor(id)):
                moved = id
                break
        if not session.loaded:  # by another task of the request
            state.from_cookie = moved or state.from_cookie
            state.moved, state.stale = moved is not None, moved is None
            session.fill({})

    async def end(self, state: State, id: str, *, spare: str | None = None) -> bool | None:
        """End a session, and the one that it was moved to.

        Args:
            state: Of the request.
            id: The session's id.
            spare: The user whose session stays if it was moved to that one.

        Returns:
            Whether there was one; None if another request has ended it just before this one began.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        # First the id, then its successor: a session that is moved in between is found at its new id.
        key = self._storage.digest(id).hex()
        there = not self._by_id or await self._storage.info(id) is not None
        for _ in range(ATTEMPTS):
            if there and await self._storage.invalidate_key(key):
                notice(self._storage, [key])
                return True
            moved = await self._storage.successor(id)
            if moved is None or moved.info is None:
                late = _is_late(state, self._storage.digest(id).hex(), moved) and _has_ended(
                    moved, state.began
                )
                return None if late else False
            if spare is not None and moved.info.subject == spare:
                return True
            key, there = moved.key, True
        raise StorageUnavailable(f"the session got a new id during each of {ATTEMPTS} attempts to end it")

    async def end_all(self, state: State, *ids: str) -> bool:
        """`end` for several ids, some of which may be the same; whether to clear their cookie."""
        ended = [await self.end(state, id) for id in dict.fromkeys(ids)]
        return any(ended) or None not in ended

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
        moved = await self.successor(state)
        state.moved = lives = moved is not None and moved.info is not None
        state.emptied = False
        if session.logs_in:
            if not lives and not state.cleared:  # what ended does not come back
                session.fill(self.changes(session).apply({}))
            return True
        if lives and info.subject is not None and session.subject is None:  # a logout
            await self.end(state, state.id)
            await self.end_followed(state)
            return True
        changes = self.changes(session)
        asked = changes or state.expiry_requested
        if asked and not (lives and await self._follow(session, info.subject, changes)):
            self.drop(session)
        return False

    async def successor(self, state: State) -> Successor | None:
        """Where a session is whose id was changed; None if it was not."""
        if state.key is None:
            return None if state.id is None else await self._storage.successor(state.id)
        if (info := (await self._storage.infos([state.key])).get(state.key)) is not None:
            return Successor(state.key, info)
        return (await self._storage.successors([state.key])).get(state.key)

    async def end_followed(self, state: State) -> None:
        """End a session that is known by its key only."""
        for _ in range(ATTEMPTS):
            if state.key is None or await self._storage.invalidate_key(state.key):
                break
            moved = (await self._storage.successors([state.key])).get(state.key)
            state.key = None if moved is None or moved.info is None else moved.key
        state.key = None

    async def load(self, state: State, subject: str | None) -> Snapshot | None:
        """The session that an id was moved to; None if there is none, or another user has it.

        Raises:
            SessionConflict: If it was moved again in between.
        """
        moved = await self.successor(state)
        if moved is None or moved.info is None or moved.info.subject != subject:
            return None
        try:
            snapshot = await self._storage.load_key(moved.key)
        except UnsupportedOperation:
            return None
        except SessionCorrupt:
            log_unreadable(self._storage, bytes.fromhex(moved.key))
            return None
        if snapshot is None or snapshot.data == ENDED:
            raise SessionConflict("the session was moved again, or ended")
        return snapshot if snapshot.info.subject == subject else None

    def drop(self, session: Session) -> None:
        """Note that what a request changed is lost, and log it once for a request."""
        session.state.lost = True
        if session.state.drop_logged:
            return
        session.state.drop_logged = True
        why = "got another id" if session.state.moved else "ended"
        logger.warning("a session %s while a request was under way: its changes are dropped", why)

    async def _follow(self, session: Session, subject: str | None, changes: Changes) -> bool:
        """Make changes to the session that the id was moved to; whether it has the same subject."""
        state, own = session.state, State()

        async def load() -> Snapshot | None:
            return await self.load(state, subject)

        def merge(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
            own.ttl, own.browser = UNSET, None
            data = self._payloads.decode(snapshot, own)
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
            state.lost = False
        session.fill(merged)
        state.ttl, state.browser, state.authenticated = own.ttl, own.browser, own.authenticated
        state.stored(payload)
        state.settle()
        return True

    def changes(self, session: Session) -> Changes:
        """What a request has changed since it read the session, or wrote it."""
        state, data = session.state, session.plain()
        if state.cleared:
            return Changes(replaced=True, assigned=data)
        return self._payloads.changes(state.raw, data, state.sources)


def _is_late(state: State, key: str, moved: Successor | None) -> bool:
    """Whether a request may have been sent before another response gave the browser another cookie, or none.

    Args:
        state: Of the request.
        key: Of the id that it came with.
        moved: What became of that, if it is known.
    """
    if moved is None or moved.key != key or moved.since is None:
        return moved is not None
    return state.began - moved.since.timestamp() < UNDER_WAY


def _has_ended(moved: Successor | None, time: float) -> bool:
    """Whether an id had been given up at a time: later, this request may have done it itself, as by `revoke`."""
    return moved is not None and (moved.since is None or moved.since.timestamp() < time)
