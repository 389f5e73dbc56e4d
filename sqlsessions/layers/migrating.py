"""`MigratingStorage`: reads through to the place where sessions were before, and moves them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from datetime import datetime
from typing import Any, TypeVar, Unpack

from .. import records
from .._tasks import finish
from .._validation import MAX_DURATION
from ..channels import Bytes, Consumer, Provider
from ..delegating import DelegatingStorage, WriteOptions
from ..errors import (
    InvalidArgumentType,
    SessionConflict,
    SessionError,
    SessionTooLarge,
    StorageUnavailable,
    TooManySessions,
)
from ..info import Rebinding, SessionInfo, Snapshot
from ..storage import DEFAULT, Default, Duration, Keep, ManagedSessionStorage, SessionStorage
from .sources import OldSession, Source, StorageSource, reaching

R = TypeVar("R")

MOVING = b"\0sqlsessions: this session is being moved"
"""The data of a session whose data is still in the old place."""

LONGEST_MOVE = 60.0  # seconds after which a move that was broken off leaves nothing behind
AT_ONCE = 1e-6  # seconds
ATTEMPTS = 10

logger = logging.getLogger("sqlsessions")


class MigratingStorage(DelegatingStorage):
    """Moves sessions from another library's place, or another storage, as their cookies come by.

    Every operation is one of the new storage. A session that this does not have is looked for in the old place,
    written to the new one and deleted from the old, so that it is in one of them, and nobody is logged out. What
    ends a session ends it in both, and a session that has ended is not brought back: not by a request that
    read it before, nor by another process.

    A session that is moved is in use, so its idle timeout begins anew, with the new storage's or with what it had
    left, whichever is longer. An absolute end stays, but for one that a storage of sqlsessions set. A session that was
    moved counts as begun then, also for `revoke_all`: after a breach, end all. Once no session in the old place lives any more, replace this
    by the new storage.

    In a transaction of the caller's, sessions end in the old place at once, and stay ended if it is rolled back.
    `sessions` lists what has been moved. `revoke` and `invalidate_key` read all of what has not, unless the old
    place is a `ManagedSessionStorage`. All processes of a service must use it from the same time on: one that uses
    the old place alone does not see what was moved.

    Args:
        new: Where sessions are kept from now on; closed with this one.
        old: Where they were: a `Source`, such as those of `sqlsessions.moving`, or a storage. Closed with this one.

    Raises:
        InvalidArgumentType: If an argument is of the wrong type.
    """

    finds_by_id = True
    """Whether some sessions are found by their ids alone: the integrations look for one before they end it by key."""

    def __init__(self, new: ManagedSessionStorage, old: Source | SessionStorage) -> None:
        if not isinstance(new, ManagedSessionStorage):
            raise InvalidArgumentType(f"new must be a ManagedSessionStorage, not {type(new).__name__}")
        super().__init__(new)
        if isinstance(old, SessionStorage):
            old = StorageSource(old)
        if not isinstance(old, Source):
            raise InvalidArgumentType(f"old must be a Source or a SessionStorage, not {type(old).__name__}")
        self._new, self._source = new, old

    async def load(self, id: str) -> Snapshot | None:
        found = await self._new.load(id)
        return await self._move(id) if found is None or found.data == MOVING else found

    async def load_key(self, key: str) -> Snapshot | None:
        found = await self._new.load_key(key)
        return None if found is None or found.data == MOVING else found

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        await self._settle(id)
        return await self._new.read(id, consumer)

    async def read_bytes(self, id: str) -> bytes:
        await self._settle(id)
        return await self._new.read_bytes(id)

    async def info(self, id: str) -> SessionInfo | None:
        return await self._settle(id)

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        await self._settle(id)
        return await self._new.touch(id, ttl=ttl)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        await self._settle_before_write(id, options)
        return await self._new.write(id, provider, **options)

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        await self._settle_before_write(id, options)
        return await self._new.write_bytes(id, data, **options)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        await self._settle_both(id, new_id)
        return await self._new.rotate(id, new_id)

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        await self._settle_both(id, new_id)
        return await self._new.rotate_with(id, new_id, rebinding)

    async def invalidate(self, id: str) -> None:
        self._new.digest(id)  # which refuses what is no id
        await self._old(self._source.end(id))  # first, or a move that is under way could find it there
        await self._new.invalidate(id)

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        before = await self._old(self._source.end_key(key, self.digest))
        return await super().invalidate_key(key, connection=connection) or before

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        if keep is not None:
            await self._settle(keep)
        before = await self._old(self._source.revoke(records.checked_subject(subject)))
        return before + await super().revoke(subject, keep=keep, connection=connection)

    async def revoke_all(self, before: datetime | None = None) -> int:
        ended = await self._old(self._source.revoke_all(before))  # first, as in `invalidate`
        return ended + await super().revoke_all(before)

    async def aclose(self) -> None:
        """Close both places."""
        try:
            await self._source.aclose()
        finally:
            await super().aclose()

    async def _settle(self, id: str) -> SessionInfo | None:
        """Move a session unless it is in the new place, whose info this gives."""
        info = await self._new.info(id)
        if info is None or info.size == len(MOVING):
            found = await self.load(id)
            return None if found is None else found.info
        return info

    async def _settle_before_write(self, id: str, options: WriteOptions) -> None:
        if options.get("if_match") in (None, 0):  # any other version is one of the new place
            await self._settle_target(id)

    async def _settle_target(self, id: str) -> None:
        """`_settle` for an id that is usually new."""
        self._new.digest(id)
        if await self._live(id) is not None:
            await self._move(id)

    async def _settle_both(self, id: str, new_id: str) -> None:
        await self._settle(id)
        await self._settle_target(new_id)
        await self._old(self._source.end(id))  # what a move that was broken off may have left there

    async def _move(self, id: str) -> Snapshot | None:
        """Move a session to its end, although the caller be cancelled."""
        return await finish(asyncio.create_task(self._moved(id)))

    async def _moved(self, id: str) -> Snapshot | None:
        """Move a session; itself as it is in the new place, None if there is none.

        A marker takes its place before it is read from the old one. What ends the session deletes it from the old
        place and then the marker, so that either nothing is read or the condition of the write fails.
        """
        for _ in range(ATTEMPTS):
            snapshot = await self._new.load(id)
            if snapshot is not None and snapshot.data != MOVING:
                return snapshot
            if (found := await self._live(id)) is None:
                if await self._new.load(id) == snapshot and await self._without(id, snapshot):
                    return None
                continue  # another task moved it in between
            try:
                if snapshot is None:
                    marker = await self._new.write_bytes(
                        id, MOVING, ttl=LONGEST_MOVE, subject=found.subject, if_match=0
                    )
                    if (found := await self._live(id)) is None:
                        continue
                else:
                    marker = snapshot.info
                info = await self._write_over(marker, id, found)
            except SessionConflict:
                continue
            except (SessionTooLarge, TooManySessions) as error:
                logger.warning("a session cannot be moved: %s", error)
                await self._new.invalidate(id)
                return None
            await self._end_moved(id)
            return Snapshot(found.data, info)
        raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} moves: try again later")

    async def _without(self, id: str, marker: Snapshot | None) -> bool:
        """Let a marker expire whose session has ended; False if it is not there any more."""
        if marker is None:
            return True
        try:
            await self._new.write_bytes(id, MOVING, ttl=AT_ONCE, if_match=marker.info.version)
        except SessionConflict:
            return False
        return True

    async def _write_over(self, marker: SessionInfo, id: str, found: OldSession) -> SessionInfo:
        default = records.TWO_WEEKS if self.default_ttl is DEFAULT else self.default_ttl
        options: WriteOptions = {"ttl": default, "subject": found.subject, "if_match": marker.version}
        if found.expires_at is not None:
            left = max(AT_ONCE, min(found.expires_at.timestamp() - self.clock(), MAX_DURATION))
            if found.absolute:
                options["max_age"] = left
            elif isinstance(default, float):
                options["ttl"] = max(default, left)
        return await self._new.write_bytes(id, found.data, **options)

    async def _end_moved(self, id: str) -> None:
        try:
            await self._old(self._source.end(id))
        except SessionError:  # it is moved again by the next request
            await self._new.invalidate(id)
            raise

    async def _live(self, id: str) -> OldSession | None:
        found = await self._old(self._source.load(id))
        if found is None or found.expires_at is None or found.expires_at.timestamp() > self.clock():
            return found
        return None

    async def _old(self, work: Awaitable[R]) -> R:
        with reaching(self._source):
            return await work
