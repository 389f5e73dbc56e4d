"""The contract on storages that break it, each in one way; run by `test_contract_catches`.

And on a plain one that keeps it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    Consumer,
    InvalidArgumentType,
    ManagedSessionStorage,
    Provider,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    SessionStorage,
    SessionStorageMemory,
)
from sqlsessions.channels import collect, consume, providing
from sqlsessions.records import digest
from sqlsessions.testing import ManualClock, StorageContract


class Plain(SessionStorage):
    """Three verbs over a dict, as a third party may write them."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}

    async def write(self, id: str, provider: Provider) -> None:
        key = digest(id)
        self.blobs[key] = await collect(provider)

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        try:
            data = self.blobs[digest(id)]
        except KeyError:
            raise SessionNotFound("no live session has this id") from None
        return await consume(consumer, data)

    async def invalidate(self, id: str) -> None:
        self.blobs.pop(digest(id), None)


class TestPlain(StorageContract):
    async def create_storage(self, clock: ManualClock) -> Plain:
        return Plain()


class Appending(Plain):
    """Stores each piece as it comes."""

    async def write(self, id: str, provider: Provider) -> None:
        key = digest(id)
        self.blobs[key] = b""

        async def sink(piece: bytes) -> None:
            self.blobs[key] += piece

        async with ByteWriteChannel(sink) as channel:
            if not callable(provider) or not asyncio.iscoroutine(given := provider(channel)):
                raise InvalidArgumentType("provider must be an async function")
            await given


class CaseInsensitive(Plain):
    """Looks ids up as a database with a usual collation does."""

    async def write(self, id: str, provider: Provider) -> None:
        await super().write(id.casefold().rstrip(), provider)

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        return await super().read(id.casefold().rstrip(), consumer)

    async def invalidate(self, id: str) -> None:
        await super().invalidate(id.casefold().rstrip())


class Truncating(Plain):
    """Keeps the first 255 characters of an id."""

    async def write(self, id: str, provider: Provider) -> None:
        await super().write(id[:255], provider)

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        return await super().read(id[:255], consumer)


class Rereading(Plain):
    """Streams from wherever the session is by then."""

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        await super().read(id, ByteReadChannel.read)

        async def pieces() -> AsyncIterator[bytes]:
            position = 0
            while piece := self.blobs.get(digest(id), b"")[position : position + 65_536]:
                yield piece
                position += len(piece)

        return await consume(consumer, pieces())


class TooHelpful(Plain):
    """Turns a provider's or consumer's errors into its own."""

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        try:
            return await super().read(id, consumer)
        except OSError as error:
            raise SessionNotFound(f"no session {id}") from error


class Stale(SessionStorageMemory):
    """Remembers what it once read."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._read: dict[str, bytes] = {}

    async def read_bytes(self, id: str) -> bytes:
        if id not in self._read:
            self._read[id] = await super().read_bytes(id)
        return self._read[id]

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        info = await super().write(id, provider, **options)
        self._read.pop(id, None)
        return info


class Unconditional(SessionStorageMemory):
    """Ignores if_match."""

    async def write(
        self, id: str, provider: Provider, *, if_match: Any = None, **options: Any
    ) -> SessionInfo:
        return await super().write(id, provider, **options)


class CheckingEarly(SessionStorageMemory):
    """Compares the version before the provider runs, and writes whatever has happened since."""

    async def write(
        self, id: str, provider: Provider, *, if_match: Any = None, **options: Any
    ) -> SessionInfo:
        info = await self.info(id)
        if if_match is not None and if_match != (info.version if info else 0):
            raise SessionConflict("too late")
        return await super().write(id, provider, **options)


class Resurrecting(SessionStorageMemory):
    """Takes a conditional write on nothing for a write of something new."""

    async def write(
        self, id: str, provider: Provider, *, if_match: Any = None, **options: Any
    ) -> SessionInfo:
        if if_match and await self.info(id) is None:
            if_match = None
        return await super().write(id, provider, if_match=if_match, **options)


class TouchingBack(SessionStorageMemory):
    """Sets the expiry of a touch without a look at the one there is."""

    async def touch(self, id: str, **options: Any) -> SessionInfo | None:
        if await super().touch(id, **options) is None:
            return None
        record, data = self._sessions[digest(id)]
        later = self._now() + (record.ttl or 0)
        self._sessions[digest(id)] = (replace(record, expires_at=later if record.ttl else None), data)
        return await self.info(id)


class Oblivious(SessionStorageMemory):
    """Touches only what that extends."""

    async def touch(self, id: str, **options: Any) -> SessionInfo | None:
        before, after = await self.info(id), await super().touch(id, **options)
        if before and after and before.expires_at == after.expires_at:
            record, data = self._sessions[digest(id)]
            self._sessions[digest(id)] = (replace(record, touched_at=None), data)
        return await self.info(id)


class Forgetful(SessionStorageMemory):
    """Makes a session anew with each write."""

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        data = await collect(provider)
        await self.invalidate(id)
        return await super().write(id, providing(data), **options)


class Coarse(SessionStorageMemory):
    """Keeps time in whole seconds."""

    def _now(self) -> int:
        return super()._now() // 1_000_000 * 1_000_000


class Stopped(SessionStorageMemory):
    """A rewrite at the instant of the creation looks like the creation."""

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        await super().write(id, provider, **options)
        record, data = self._sessions[digest(id)]
        self._sessions[digest(id)] = (replace(record, updated_at=self._now()), data)
        return self._sessions[digest(id)][0].info(digest(id))


class Overwriting(SessionStorageMemory):
    """Rotates onto whatever is there."""

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        if id != new_id:
            await self.invalidate(new_id)
        return await super().rotate(id, new_id)


class Copying(SessionStorageMemory):
    """Rotates by writing the data anew and forgets to end the old session."""

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        if (snapshot := await self.load(id)) is None:
            raise SessionNotFound("no live session has this id")
        return await self.write_bytes(new_id, snapshot.data, if_match=0)


class FirstPage(SessionStorageMemory):
    """Lists the first 500."""

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        left = 500
        async for info in super().sessions(subject, label=label):
            if (left := left - 1) >= 0:
                yield info


class RevokingAll(SessionStorageMemory):
    """Knows no session to keep."""

    async def revoke(self, subject: str, **options: Any) -> int:
        return await super().revoke(subject)


class Indiscriminate(SessionStorageMemory):
    """Ends the sessions that began later, too."""

    async def revoke_all(self, before: datetime | None = None) -> int:
        await super().revoke_all(before)
        return await super().revoke_all()


class Unlabelled(SessionStorageMemory):
    """Keeps the labels of a session for the next one of its id."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.labels: dict[str, Any] = {}

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        kept = {"labels": self.labels[id]} if id in self.labels else {}
        info = await super().write(id, provider, **kept | options)
        self.labels[id] = info.labels
        return info


class Rooted(SessionStorageMemory):
    """Leaves labels behind when a session gets another id."""

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        await super().rotate(id, new_id)
        return await self.write_bytes(new_id, await self.read_bytes(new_id), labels=())


class Hasty(SessionStorageMemory):
    """Purges by the hour alone."""

    async def purge(self, **options: Any) -> int:
        deleted = await super().purge(**options)
        hour = 3600 * 1_000_000
        for key, (record, _) in list(self._sessions.items()):
            if record.expires_at is not None and record.expires_at // hour <= self._now() // hour + 1:
                self._delete(key)
                deleted += 1
        return deleted


class Discreet(SessionStorageMemory):
    """Keeps no records of sessions that it ends by their subject."""

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        before = self._records.copy()
        count = await super().revoke(subject, keep=keep, connection=connection)
        self._records = before
        return count


class Exclusive(SessionStorageMemory):
    """Lets one write or read in at a time, while user code runs too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = asyncio.Lock()

    async def write(self, id: str, provider: Provider, **options: Any) -> SessionInfo:
        async with asyncio.timeout(0.05), self._lock:
            return await super().write(id, provider, **options)

    async def read(self, id: str, consumer: Consumer[Any]) -> Any:
        async with asyncio.timeout(0.05), self._lock:
            return await super().read(id, consumer)


BROKEN: list[type[SessionStorage]] = [
    Appending, CaseInsensitive, Truncating, Rereading, TooHelpful, Stale, Unconditional, CheckingEarly,
    Resurrecting, TouchingBack, Oblivious, Forgetful, Coarse, Stopped, Overwriting, Copying, FirstPage, RevokingAll, Indiscriminate, Unlabelled, Rooted,
    Hasty,
    Discreet,
    Exclusive,
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
class TestBroken(StorageContract):
    keep_ended = 1000.0
    touch_every = 600.0

    @pytest.fixture(autouse=True)
    def _choose(self, broken: type[SessionStorage]) -> None:
        self.broken = broken

    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        managed = issubclass(self.broken, ManagedSessionStorage)
        options: dict[str, Any] = {}
        if managed:
            options = {"clock": clock, "keep_ended": self.keep_ended, "touch_every": self.touch_every}
        return self.broken(**options)
