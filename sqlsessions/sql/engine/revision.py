"""The revision of the tables, looked at while a service runs: it may be upgraded meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from weakref import ref

from sqlalchemy import Column, MetaData, String, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ...errors import SessionError
from ..models import REVISIONS, VERSION_TABLE
from .engines import Engines, LoopState

logger = logging.getLogger("sqlsessions")

FIRST = 60.0
"""Seconds from the first use of a storage in an event loop to the first look, and between two after errors."""

AGAIN = 3600.0
"""Seconds between two looks."""

NEWER = (
    "the tables are of a newer sqlsessions (revision %s): run `pip install --upgrade sqlsessions` where this service "
    "runs, before they are upgraded again"
)
BEHIND = "the tables are behind, at revision %s, where this version needs %s: run `sqlsessions upgrade`"

_version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


class RevisionWatch:
    """Warns of tables of another revision than this version's: every hour, and after an error that tells of other tables.

    Args:
        engines: Of the database.
        run: Runs work that is one statement.
    """

    def __init__(
        self,
        engines: Engines,
        run: Callable[[Callable[[AsyncConnection], Awaitable[str | None]]], Awaitable[str | None]],
    ) -> None:
        self._engines = engines
        self._run = run
        self._looking = False
        self._looked: float | None = None
        self._warned_of: str | None = None

    def begin(self, state: LoopState) -> None:
        """Look every now and then while an event loop runs."""
        # A storage that was forgotten without being closed is not kept by its timer.
        state.timer = state.loop.call_later(FIRST, _look_again, ref(self), ref(state))

    def after_error(self) -> None:
        """Look after an error of the tables, unless that was done lately."""
        if self._looked is None or monotonic() - self._looked >= FIRST:
            self.look()

    def look(self) -> None:
        """Look in the background, unless a look is under way."""
        if not self._looking and not self._engines.closed:
            self._looking, self._looked = True, monotonic()
            self._engines.spawn(self._look)

    async def _look(self) -> None:
        try:
            found = await self._run(_revision)
        except SessionError:
            return  # the application has the tables in a history of its own, or the database is away
        finally:
            self._looking = False
        if found in (None, REVISIONS[-1]) or found == self._warned_of:
            return
        self._warned_of = found
        if found in REVISIONS:
            logger.warning(BEHIND, found, REVISIONS[-1])
        else:
            logger.warning(NEWER, found)


def _look_again(watch: ref[RevisionWatch], state: ref[LoopState]) -> None:
    if (found := watch()) is not None and (living := state()) is not None:
        living.timer = living.loop.call_later(AGAIN, _look_again, watch, state)
        found.look()


async def _revision(connection: AsyncConnection) -> str | None:
    found: Any = (await connection.execute(select(_version.c.version_num))).scalar()
    return None if found is None else str(found)
