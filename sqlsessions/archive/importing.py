"""Sessions that come from another database, with all that is known about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import SessionChanged
from ..records import Record
from ..sql.batching.driver import Chunk
from ..sql.engine.database import IDEMPOTENT
from ..sql.models import sessions
from ..sql.statements import chunks, transactions
from ..sql.statements.single import parameter, parameters, row
from ..sql.statements.transactions import Stored

if TYPE_CHECKING:
    from ..sql.storage import SqlSessionStorage

c = sessions.c


class ImportOutcome(Enum):
    """What becomes of a session that arrives."""

    WRITTEN = auto()
    PRESENT = auto()
    NEWER = auto()
    EXPIRED = auto()


class Importer:
    """Writes sessions as they were elsewhere.

    Args:
        storage: Where to.
    """

    def __init__(self, storage: SqlSessionStorage) -> None:
        self._database = storage._database  # noqa: SLF001 (of one house)
        self._staging = storage._staging  # noqa: SLF001
        self._limits = storage._limits  # noqa: SLF001
        self._repository = storage._repository  # noqa: SLF001

    async def write(
        self, page: Sequence[tuple[bytes, Record, bytes | None]]
    ) -> list[tuple[ImportOutcome, list[int]]]:
        """Write small sessions in one transaction; those without data are left out.

        Returns:
            What became of them, with their sizes.
        """
        small = [(digest, record, data) for digest, record, data in page if data is not None]
        if not small:
            return []
        work = partial(
            _write, small=small, now=self._repository.now(), version=self._repository.next_version()
        )
        fates = await self._database.transaction(work, resolve=IDEMPOTENT)
        return [
            (
                outcome,
                [record.size for (_, record, _), fate in zip(small, fates, strict=True) if fate is outcome],
            )
            for outcome in ImportOutcome
        ]

    async def write_large(self, digest: bytes, record: Record, pieces: AsyncIterator[bytes]) -> ImportOutcome:
        """Write a session in chunks, unless there is no need to, when the pieces are left alone."""
        look = partial(_met, digest=digest, record=record, now=self._repository.now())
        if (fate := await self._database.transaction(look, resolve=IDEMPOTENT)) is not ImportOutcome.WRITTEN:
            return fate
        reserve = partial(chunks.reserve, version=record.version, digest=digest, now=self._repository.now())
        await self._database.transaction(reserve, resolve=IDEMPOTENT)
        buffer, seq = bytearray(), 0
        async for piece in pieces:
            buffer += piece
            while len(buffer) >= self._limits.chunk:
                await self._stage(record.version, digest, seq, bytes(buffer[: self._limits.chunk]))
                del buffer[: self._limits.chunk]
                seq += 1
        if buffer:
            await self._stage(record.version, digest, seq, bytes(buffer))
            seq += 1
        work = partial(
            _point, digest=digest, record=record, staged=seq,
            now=self._repository.now(), version=self._repository.next_version(),
        )  # fmt: skip
        return await self._database.transaction(work, resolve=IDEMPOTENT)

    async def _stage(self, version: int, digest: bytes, seq: int, data: bytes) -> None:
        await self._staging.stage(Chunk(version, digest, seq, data))


def _fate_of(record: Record, old: Stored | None, now: int) -> ImportOutcome:
    if not record.live(now):
        return ImportOutcome.EXPIRED
    if old is None:
        return ImportOutcome.WRITTEN
    if old.record.version == record.version:
        return ImportOutcome.PRESENT
    return (
        ImportOutcome.NEWER
        if old.record.live(now) and old.record.version > record.version
        else ImportOutcome.WRITTEN
    )


async def _met(connection: AsyncConnection, digest: bytes, record: Record, now: int) -> ImportOutcome:
    old = next(iter(await transactions.locked(connection, c.id == digest)), None)
    return await _met_by(connection, record, old, now)


async def _met_by(connection: AsyncConnection, record: Record, old: Stored | None, now: int) -> ImportOutcome:
    """What becomes of a session; one that is there gets the later expiry, as if touched here."""
    fate = _fate_of(record, old, now)
    if fate is ImportOutcome.PRESENT and old is not None and _later(record.expires_at, old.record.expires_at):
        longer = update(sessions).where(c.id == old.id)
        await connection.execute(longer.values(ttl=record.ttl, expires_at=record.expires_at))
    return fate


def _later(time: int | None, other: int | None) -> bool:
    return other is not None and (time is None or time > other)


async def _write(
    connection: AsyncConnection, small: list[tuple[bytes, Record, bytes]], now: int, version: int
) -> list[ImportOutcome]:
    found = await transactions.locked(connection, c.id.in_([digest for digest, _, _ in small]))
    there = {stored.id: stored for stored in found}
    fates = [await _met_by(connection, record, there.get(digest), now) for digest, record, _ in small]
    new = []
    for (digest, record, data), fate in zip(small, fates, strict=True):
        if fate is not ImportOutcome.WRITTEN:
            continue
        if old := there.get(digest):
            await _replace(connection, old, row(digest, record, data), now, version)
        else:
            new.append(parameters(row(digest, record, data)))
    if new:
        await connection.execute(
            insert(sessions).values({each.name: parameter(each.name) for each in c}), new
        )
    return fates


async def _point(
    connection: AsyncConnection, digest: bytes, record: Record, staged: int, now: int, version: int
) -> ImportOutcome:
    old = next(iter(await transactions.locked(connection, c.id == digest)), None)
    if (fate := _fate_of(record, old, now)) is not ImportOutcome.WRITTEN:
        return fate
    if await chunks.count(connection, record.version, digest) != staged:
        raise SessionChanged("the import took so long that its staged data was purged: import IDEMPOTENT")
    await chunks.release(connection, record.version, digest)
    if old is not None:
        await _replace(connection, old, row(digest, record, None), now, version)
    else:
        values = {each.name: parameter(each.name) for each in c}
        await connection.execute(insert(sessions).values(values), parameters(row(digest, record, None)))
    return fate


async def _replace(
    connection: AsyncConnection, old: Stored, new: tuple[object, ...], now: int, version: int
) -> None:
    if old.chunked:
        await chunks.mark(connection, [(old.record.version, old.id)], now)
    await chunks.leave_tombstones(connection, version, [(old.id, old.record.version)])
    values = {each.name: parameter(each.name) for each in c}
    await connection.execute(update(sessions).where(c.id == parameter("id")).values(values), parameters(new))
