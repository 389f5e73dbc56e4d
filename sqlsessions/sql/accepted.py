"""Sessions that are kept under other keys or in other namespaces: found by their ids, and moved to the storage's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from .._digests import Digests
from ..errors import SessionConflict, SessionNotFound
from ..info import Rebinding
from ..records import Record
from .repository import SessionRepository

T = TypeVar("T")

ATTEMPTS = 5
"""How often a session is looked for that another process, with other keys first, moves meanwhile."""


class Accepted:
    """Finds sessions under every name that their ids may have; without such names it costs nothing.

    A session that is kept under another name is moved, in one transaction, before it is used. So data is written and
    read under the storage's own name alone, and only lists show the names that sessions have until then.

    Args:
        digests: Of the storage.
        repository: Its sessions.
    """

    def __init__(self, digests: Digests, repository: SessionRepository) -> None:
        self._digests = digests
        self._repository = repository
        self._rebinding: Callable[[bytes, bytes], Rebinding] | None = None

    def rebind_moved(self, rebinding: Callable[[bytes, bytes], Rebinding]) -> None:
        """Set what a move does to a session's data; see `MovesSessions`."""
        self._rebinding = rebinding

    def names(self, id: str) -> list[bytes]:
        """All digests of an id, the storage's own first."""
        return [self._digests.of(id), *(each.of(id) for each in self._digests.accepted)]

    async def here(self, id: str) -> bytes:
        """The digest of an id, once a session that is kept under another is moved there."""
        digest = self._digests.of(id)
        if self._digests.accepted:
            await self._bring(id, digest)
        return digest

    async def where(self, id: str) -> bytes:
        """The digest that a session is kept under now; it is not moved."""
        digest, *others = self.names(id)
        kept = await self._repository.infos(others) if others else {}
        return bytes.fromhex(next(iter(kept))) if kept else digest

    def at(self, id: str, work: Callable[[bytes], Awaitable[T]]) -> Awaitable[T]:
        """Do something with a session by its digest.

        It is done again if it gave nothing, or raised `SessionNotFound`, because the session was moved meanwhile.
        """
        digest = self._digests.of(id)
        return self._brought(id, digest, work) if self._digests.accepted else work(digest)

    async def _brought(self, id: str, digest: bytes, work: Callable[[bytes], Awaitable[T]]) -> T:
        await self._bring(id, digest)
        for _ in range(ATTEMPTS):
            with suppress(SessionNotFound):
                if found := await work(digest):
                    return found
            if not await self._bring(id, digest):
                break
        return await work(digest)

    async def forwarding(self, id: str) -> tuple[bytes, tuple[bytes, Record | None, int]] | None:
        """`SessionRepository.forwarding` of the name of an id that a session was moved or ended under, and that name."""
        for name in (names := self.names(id)):
            found = await self._repository.forwarding(name)
            if found is not None and not (found[1] and found[0] in names):  # which is the same id
                return name, found
        return None

    async def _bring(self, id: str, digest: bytes) -> bool:
        """Move a session from its other names; whether there was one."""
        kept = await self._repository.infos(self.names(id)[1:])
        for other in map(bytes.fromhex, kept):
            rebinding = None if self._rebinding is None else self._rebinding(other, digest)
            try:
                await self._repository.rotate(other, digest, rebinding)
            except SessionNotFound:
                continue  # another call moved or ended it
            except SessionConflict:  # it lives under both: the storage's own is the one that is used
                await self._repository.end_one(other, "replaced")
        return bool(kept)
