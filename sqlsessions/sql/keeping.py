"""What a storage keeps of sessions that have ended, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import and_
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from ..info import EndedSession, EndReason
from ..storage import Duration
from .dialects import HOUR
from .engine.database import IDEMPOTENT, Database
from .models import ends
from .statements.ends import (
    Kept,
    Row,
    ended_of,
    fetch_ended,
    find_kept,
    forget,
    keep,
    page_of_ended,
    rename,
    say,
)
from .statements.listing import PAGE, within
from .statements.transactions import Stored

e = ends.c


class Keeping:
    """Records of the sessions of a storage that have ended.

    Args:
        database: Where they are.
        keep_ended: For how long they are kept; None keeps none.
        prefixes: What the digests of the namespaces begin with.
        now: Gives the time.

    Attributes:
        now: Gives the time.
        rows: Which sessions are of the namespaces.

    Raises:
        InvalidArgument: If the duration is out of its range.
        InvalidArgumentType: If it is of the wrong type.
    """

    def __init__(
        self,
        database: Database,
        keep_ended: Duration | None,
        prefixes: Collection[bytes | None],
        now: Callable[[], int],
    ) -> None:
        self._database = database
        self._span = records.duration("keep_ended", keep_ended)
        self._adopted = False
        self.rows = within(*prefixes)
        self._prefixes = [prefix or b"" for prefix in prefixes]
        self._within = within(*prefixes, id=e.id)
        self.now = now
        self._said: int | None = None

    @property
    def on(self) -> bool:
        """Whether records are kept."""
        return self._span is not None or self._adopted

    async def announce(self) -> None:
        """Say in the database that records are kept, once an hour: commands keep some then, and purges delete them."""
        now = self.now()
        if self._span is None or (self._said is not None and abs(now - self._said) < HOUR):
            return
        before, self._said = self._said, now
        saying = partial(say, prefixes=self._prefixes, kept=Kept(self._span, now))
        try:
            await self._database.transaction(saying, resolve=IDEMPOTENT)
        except BaseException:
            self._said = before
            raise

    async def adopt(self) -> None:
        """Keep records if the services of the namespaces do; for commands."""
        kept, now = await self._database.run(find_kept), self.now()
        self._adopted = any(kept[prefix].holds(now) for prefix in self._prefixes if prefix in kept)

    async def keep(
        self, connection: AsyncConnection, rows: list[Stored], reason: EndReason, now: int
    ) -> None:
        """Keep records of sessions that end, in the transaction that ends them, if any are to be kept."""
        if self.on:
            await keep(connection, rows, reason, now)

    async def ended(self, subject: str | None, since: datetime | None) -> AsyncIterator[EndedSession]:
        """See `KeepsEnded.ended`."""
        first = None if since is None else records.from_datetime(records.moment("since", since))
        own = None if subject is None else records.checked_subject(subject)
        async for page in self._pages(own, first):
            for row in page:
                yield ended_of(row)

    async def _pages(self, subject: str | None, since: int | None) -> AsyncIterator[list[Row]]:
        own = None if subject is None else self._database.dialect.subject_is(e.subject, subject)
        page: list[Row] | None = None
        while page is None or len(page) == PAGE:
            statement = page_of_ended(self._within, own, since, page[-1] if page else None)
            page = await self._database.run(partial(fetch_ended, statement=statement))
            yield page

    async def forget(self, subject: str) -> int:
        """Delete the records of a subject's sessions; how many."""
        own = self._database.dialect.subject_is(e.subject, records.checked_subject(subject))
        return await self._database.run(partial(forget, where=and_(self._within, own)), resolve=IDEMPOTENT)

    async def rename(self, name: Callable[[str], str]) -> int:
        """Give records other names; how many were changed."""
        changed = 0
        async for page in self._pages(None, None):
            work: Any = partial(rename, rows=page, name=name)
            changed += await self._database.transaction(work, resolve=IDEMPOTENT)
        return changed
