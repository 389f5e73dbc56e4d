"""Large blobs: staged in chunks under their own version, read chunk by chunk, marked when superseded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import and_, delete, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from ..errors import InvalidArgument, SessionChanged, SessionCorrupt, SessionTooLarge, StorageUnavailable
from ..records import Record
from .batching.driver import Chunk, Chunks, Driver
from .batching.operations import Row
from .engine.database import Database
from .models import chunks, sessions
from .statements.chunks import count, reserve
from .statements.single import SIZE, VERSION
from .statements.transactions import locked

CHUNKS_PER_READ = 4
CHUNKS_PER_COPY = 16

c = chunks.c


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes, in bytes.

    Attributes:
        inline: The most that is kept in the session's own row.
        chunk: A chunk of a larger session.
        size: The most that a session may have; None is any size.
    """

    inline: int
    chunk: int
    size: int | None

    @classmethod
    def checked(cls, inline_limit: int, chunk_size: int, max_size: int | None) -> Limits:
        """Check the arguments of a storage."""
        limits = cls(
            inline=records.positive("inline_limit", inline_limit),
            chunk=records.positive("chunk_size", chunk_size),
            size=None if max_size is None else records.positive("max_size", max_size),
        )
        if chunk_size < inline_limit:
            raise InvalidArgument("chunk_size must be at least inline_limit")
        return limits

    @property
    def at_once(self) -> int:
        """The most that can be written in one go."""
        return self.inline if self.size is None else min(self.inline, self.size)


class Incoming:
    """The data of a write as it comes in: in memory while it is small, staged once it is not.

    Args:
        staging: Where to stage.
        digest: The session that is written.
        version: Gives the version to stage under, once there is something to be staged.
        limits: How much to take, and how.

    Attributes:
        size: Bytes that came in.
        chunks: How many chunks were staged.
        version: The version that they were staged under.
    """

    def __init__(
        self, staging: Staging, digest: bytes, version: Callable[[], Awaitable[int]], limits: Limits
    ) -> None:
        self.size = 0
        self.chunks = 0
        self.version = 0
        self._staging = staging
        self._digest = digest
        self._new_version = version
        self._limits = limits
        self._buffer = bytearray()

    @property
    def inline(self) -> bytes | None:
        """All of the data, if it was small."""
        return None if self.chunks else bytes(self._buffer)

    async def add(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            SessionTooLarge: If this passes the limit.
        """
        self.size += len(piece)
        if self._limits.size is not None and self.size > self._limits.size:
            raise SessionTooLarge(self._limits.size, self.size)
        view, start = memoryview(piece), 0
        while start < len(view):
            end = start + self._limits.chunk - len(self._buffer)
            self._buffer += view[start:end]
            start = end
            if len(self._buffer) == self._limits.chunk and self.size > self._limits.inline:
                await self._flush()

    async def finish(self) -> None:
        """Stage what is left of a large blob."""
        if self._buffer and self.size > self._limits.inline:
            await self._flush()

    def discard(self) -> None:
        """Give up: delete what was staged, in the background. A purge finds what that leaves."""
        if self.chunks:
            self._staging.discard(self.version, self._digest)

    async def _flush(self) -> None:
        if not self.version:
            self.version = await self._new_version()
        data, self._buffer = bytes(self._buffer), bytearray()
        seq, self.chunks = self.chunks, self.chunks + 1
        await self._staging.stage(Chunk(self.version, self._digest, seq, data))


class Staging:
    """Reads and writes chunks, the shortest way that the driver has.

    Args:
        database: Where they are.
        driver: Carries out the statements.
    """

    def __init__(self, database: Database, driver: Driver[Any]) -> None:
        self._database = database
        self._driver = driver

    async def stage(self, chunk: Chunk) -> None:
        """Write a chunk."""

        async def stage(connection: Any) -> bool:
            await self._driver.write_chunk(connection, chunk)
            return True

        async def staged(connection: Any) -> bool | None:
            wanted = Chunks(chunk.version, chunk.digest, chunk.seq, chunk.seq + 1)
            return bool(await self._driver.read_chunks(connection, wanted)) or None

        await self._database.run(stage, resolve=staged, checkout=self._driver.checkout)

    def discard(self, version: int, digest: bytes) -> None:
        """Delete a set of chunks, in the background. A purge finds what that leaves."""

        async def delete_set(connection: AsyncConnection) -> None:
            await connection.execute(delete(chunks).where(c.version == version, c.id == digest))

        with suppress(StorageUnavailable):
            self._database.engines.spawn(partial(self._database.transaction, delete_set))

    async def joined(self, row: Row) -> bytes:
        """All of what `stream` gives, of a session with this row."""
        return b"".join([piece async for piece in self.stream(bytes(row[0]), row[VERSION], row[SIZE])])

    async def stream(self, digest: bytes, version: int, total: int) -> AsyncIterator[bytes]:
        """The data of a chunked session, holding no connection between pieces.

        Args:
            digest: The session.
            version: Its version.
            total: Bytes of its data.

        Raises:
            SessionChanged: If this version was superseded and purged meanwhile.
            SessionCorrupt: If chunks of the session as it is are missing.
        """
        seq = size = 0
        while size < total:
            wanted = Chunks(version, digest, seq, seq + CHUNKS_PER_READ)
            fetch = partial(self._driver.read_chunks, wanted=wanted)
            found = await self._database.run(fetch, checkout=self._driver.checkout)
            if not found or [number for number, _ in found] != list(range(seq, seq + len(found))):
                raise await _missing(self._database, digest, version)
            seq += len(found)
            size += sum(len(data) for _, data in found)
            if size > total:
                raise SessionCorrupt("a session has more data than it should; it cannot be read")
            for _, data in found:
                yield data


async def _missing(database: Database, digest: bytes, version: int) -> SessionChanged | SessionCorrupt:
    current = select(sessions.c.id).where(sessions.c.id == digest, sessions.c.version == version)

    async def is_current(connection: AsyncConnection) -> bool:
        return (await connection.execute(current)).first() is not None

    if await database.run(is_current):
        return SessionCorrupt("a session lacks some of its data; it cannot be read")
    return SessionChanged("the session was written or ended, and the old data purged, while it was read")


async def copy(database: Database, record: Record, digest: bytes, new_digest: bytes) -> None:
    """Give a second id the chunks of a session, in short transactions, as long as it has this version and id."""
    source = select(c.version, literal(new_digest, c.id.type), c.seq, c.data).where(
        c.version == record.version, c.id == digest
    )

    async def is_there(connection: AsyncConnection) -> bool:
        # Locked: nobody has given the session that second id, and nobody will before the commit.
        return bool(await locked(connection, sessions.c.id == digest, sessions.c.version == record.version))

    async def reserved(connection: AsyncConnection) -> None:
        if await is_there(connection):
            await reserve(connection, database.dialect, record.version, new_digest)

    async def part(connection: AsyncConnection, first: int) -> None:
        if await is_there(connection):
            copied = and_(c.version == record.version, c.id == new_digest, c.seq >= first)
            await connection.execute(delete(chunks).where(copied))  # by an attempt whose answer was lost
            rows = source.where(c.seq >= first, c.seq < first + CHUNKS_PER_COPY)
            await connection.execute(insert(chunks).from_select(["version", "id", "seq", "data"], rows))

    # What an earlier rotation from there left behind goes first.
    await database.transaction(reserved)
    total = await database.run(partial(count, version=record.version, digest=digest))
    for first in range(0, total, CHUNKS_PER_COPY):
        await database.transaction(partial(part, first=first))
