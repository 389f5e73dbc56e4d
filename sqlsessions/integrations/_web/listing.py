"""The sessions of one user, and how that user ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ...errors import UnsupportedOperation
from ...info import SessionInfo
from ...storage import ManagedSessionStorage
from .session import Session
from .watching import notice


class Listing:
    """Lists and ends the sessions of the user of a session.

    Args:
        storage: The storage of the sessions.
    """

    def __init__(self, storage: ManagedSessionStorage) -> None:
        self._storage = storage

    def of(self, session: Session) -> AsyncIterator[SessionInfo]:
        """The live sessions of its subject, the newest first; none if it has no subject."""
        return self.of_subject(session.subject)

    async def end_others(self, session: Session) -> int:
        """End all sessions of its subject but this one; the number of them."""
        return await self.end_others_of(session.subject, session.state.id)

    async def end(self, session: Session, key: str) -> bool:
        """End one of its subject's sessions by its `SessionInfo.key`; whether there was one."""
        return await self.end_of(session.subject, key)

    async def of_subject(self, subject: str | None) -> AsyncIterator[SessionInfo]:
        """`of`, by the subject."""
        if subject is not None:
            async for info in self._storage.sessions(subject):
                yield info

    async def end_others_of(self, subject: str | None, keep: str | None) -> int:
        """`end_others`, by the subject and the id of the session to keep."""
        if subject is None:
            return 0
        ended = await self._storage.revoke(subject, keep=keep)
        notice(self._storage, None)
        return ended

    async def end_of(self, subject: str | None, key: str) -> bool:
        """`end`, by the subject."""
        if subject is None:
            return False
        try:
            found = (await self._storage.infos([key])).get(key)
        except UnsupportedOperation:
            found = None
            async for info in self.of_subject(subject):
                if info.key == key:
                    found = info
                    break
        if found is None or found.subject != subject or not await self._storage.invalidate_key(key):
            return False
        notice(self._storage, [key])
        return True
