"""`Source`: another library's sessions, as `MigratingStorage` and imports read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Self

from ..errors import StorageUnavailable, UnsupportedOperation
from ..storage import ManagedSessionStorage, SessionStorage


@dataclass(frozen=True, slots=True, repr=False)
class OldSession:
    """A session of a `Source`.

    Attributes:
        id: The value of its cookie.
        data: Its data, as the integration that is to read it does.
        expires_at: When it ends; None if it has no end of its own: it then gets the new storage's.
        subject: Whose session it is; None is nobody's.
        absolute: Whether it ends at ``expires_at`` however much it is used.
    """

    id: str
    data: bytes
    expires_at: datetime | None = None
    subject: str | None = None
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A session of a `Source` that cannot be moved.

    Attributes:
        reason: Why, such as "signed with another key". Holds no id and no data.
    """

    reason: str


class Source(ABC):
    """The sessions of another library, in the place where that keeps them.

    Attributes:
        errors: What is raised when that place cannot be reached.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)

    @abstractmethod
    async def load(self, id: str) -> OldSession | None:
        """The session of the value of a cookie; None if there is none that can be moved."""

    @abstractmethod
    async def end(self, id: str) -> None:
        """Delete the session of the value of a cookie, if there is one."""

    @abstractmethod
    def sessions(self) -> AsyncIterator[OldSession | Refused]:
        """All of them. Those that are there from the beginning to the end are seen."""

    async def revoke(self, subject: str) -> int:
        """Delete all sessions of a subject; how many. By default all sessions are read for that."""
        return await self._end_all(lambda session: session.subject == subject)

    async def revoke_all(self, before: datetime | None) -> int:
        """Delete all sessions; how many. When they began is not known: all count as begun before ``before``."""
        return await self._end_all(lambda _: True)

    async def end_key(self, key: str, digest: Callable[[str], bytes]) -> bool:
        """Delete a session by its `SessionInfo.key`; whether there was one. By default all are read for that.

        Args:
            key: The key.
            digest: Gives the key of an id, as bytes.
        """
        return bool(await self._end_all(lambda session: digest(session.id).hex() == key))

    async def aclose(self) -> None:
        """Close what the source opened."""
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _end_all(self, chosen: Callable[[OldSession], bool]) -> int:
        ended = 0
        async for session in self.sessions():
            if isinstance(session, OldSession) and chosen(session):
                await self.end(session.id)
                ended += 1
        return ended


@contextmanager
def reaching(source: Source) -> Iterator[None]:
    """Raise ours for what is raised when the place of a source cannot be reached."""
    try:
        yield
    except source.errors as error:
        raise StorageUnavailable(
            f"the old place of the sessions cannot be used ({type(error).__name__})"
        ) from error


class StorageSource(Source):
    """The sessions of any `SessionStorage`, such as one of another database.

    Args:
        storage: The storage; closed with this one. Of a plain `SessionStorage`, sessions have no expiry and no
            subject.
    """

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    async def load(self, id: str) -> OldSession | None:
        if isinstance(self._storage, ManagedSessionStorage):
            if (found := await self._storage.load(id)) is None:
                return None
            return OldSession(id, found.data, found.info.expires_at, found.info.subject)
        try:
            return OldSession(id, await self._storage.read_bytes(id))
        except LookupError:
            return None

    async def end(self, id: str) -> None:
        await self._storage.invalidate(id)

    def sessions(self) -> AsyncIterator[OldSession | Refused]:
        raise UnsupportedOperation("a storage knows no ids: use `sqlsessions export` to copy its sessions")

    async def revoke(self, subject: str) -> int:
        if isinstance(self._storage, ManagedSessionStorage):
            return await self._storage.revoke(subject)
        return 0  # it has no subjects

    async def revoke_all(self, before: datetime | None) -> int:
        if isinstance(self._storage, ManagedSessionStorage):
            return await self._storage.revoke_all(before)
        raise UnsupportedOperation("a plain SessionStorage cannot list its sessions: empty it yourself")

    async def end_key(self, key: str, digest: Callable[[str], bytes]) -> bool:
        return isinstance(self._storage, ManagedSessionStorage) and await self._storage.invalidate_key(key)

    async def aclose(self) -> None:
        if isinstance(self._storage, ManagedSessionStorage):
            await self._storage.aclose()
