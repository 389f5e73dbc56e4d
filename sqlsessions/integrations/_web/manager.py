"""A request's session from the cookie that it came with to the cookie that it goes with."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable

from ...errors import InvalidArgument, SessionCorrupt
from ...info import SessionInfo
from ...records import digest, from_datetime, microseconds
from .cookies import LONGEST_AGE
from .session import Session
from .writing import SECOND, SessionWriter

__all__ = ["SECOND", "SessionManager"]

logger = logging.getLogger("sqlsessions")


class SessionManager(SessionWriter):
    """Opens, loads, commits and ends sessions for an integration.

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
        state.raw, data = self._payloads.decode(snapshot.data, state)
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
                await self.update(session)
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


def _subject(session: Session) -> str:
    if (subject := session.subject) is None:
        raise InvalidArgument("the session has no subject: set session.subject at login")
    return subject
