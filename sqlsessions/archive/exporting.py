"""Sessions on their way out of a database, whole and in the order of their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..errors import SessionCorrupt
from ..records import Record
from ..sql.models import sessions
from ..sql.repository import DATA, record_of
from ..sql.statements.single import INLINE, RECORD, live_at

if TYPE_CHECKING:
    from ..sql.storage import SqlSessionStorage

PAGE = 250
PAGE_BYTES = 8 * 1024 * 1024
"""The most that a page holds, but for one session that is larger."""

c = sessions.c


class Exporter:
    """Reads all live sessions of a storage.

    Args:
        storage: Which.
    """

    def __init__(self, storage: SqlSessionStorage) -> None:
        self._storage = storage
        self._database = storage._database  # noqa: SLF001 (of one house)

    async def pages(self, after: bytes) -> AsyncIterator[list[tuple[bytes, Record, bytes | None]]]:
        """Sessions with keys above one, each with its data, None where it is large.

        Raises:
            SessionCorrupt: If one has not the data that it should have.
        """
        while (end := await self._database.run(partial(self._end, after=after))) is not None:
            if page := await self._database.run(partial(self._page, after=after, end=end)):
                yield page
            after = end

    async def stream(self, digest: bytes) -> tuple[Record, AsyncIterator[bytes]]:
        """A session's record and data as it is now.

        Raises:
            SessionNotFound: If it has ended.
            SessionChanged: While the data is read, if it is gone.
        """
        row = await self._storage._repository.select(digest)  # noqa: SLF001
        record = record_of(row)
        if row[DATA] is not None:
            return record, _once(row[DATA])
        return record, self._storage._staging.stream(digest, record)  # noqa: SLF001

    async def _end(self, connection: AsyncConnection, after: bytes) -> bytes | None:
        """The key with which a page ends, which is as large as it may be; None if there are no more."""
        now = self._storage._repository.now()  # noqa: SLF001
        inline = case((INLINE, c.size), else_=0)
        wanted = select(c.id, inline).where(c.id > after, live_at(now)).order_by(c.id).limit(PAGE)
        end, total = None, 0
        for digest, size in await connection.execute(wanted):
            total += size
            if end is not None and total > PAGE_BYTES:
                break
            end = digest
        return end

    async def _page(
        self, connection: AsyncConnection, after: bytes, end: bytes
    ) -> list[tuple[bytes, Record, bytes | None]]:
        now = self._storage._repository.now()  # noqa: SLF001
        wanted = select(c.id, *RECORD, c.data).where(c.id > after, c.id <= end, live_at(now)).order_by(c.id)
        page = []
        for row in await connection.execute(wanted):
            record, data = record_of(row), row[DATA]
            if data is not None and len(data) != record.size:
                raise SessionCorrupt(
                    "a session's data has not the size that it should have: end it by `sqlsessions revoke --key "
                    f"{row[0].hex()}`, and go on with --resume"
                )
            page.append((row[0], record, data))
        return page


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
