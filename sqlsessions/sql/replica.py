"""Reads from a replica of PostgreSQL, as far as they show what this storage wrote itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection

from .._tasks import end
from ..errors import InvalidArgument, SessionError
from .batching.executor import BatchExecutor
from .batching.operations import Row
from .dialects import Settings
from .drivers import driver_for
from .engine.database import Database
from .statements.single import Part

POLL = 0.05  # seconds between two looks at how far the replica is
RETRY = 1.0  # seconds until the next look at one that cannot be reached
MAX_PINS = 100_000

# https://www.postgresql.org/docs/current/functions-admin.html
_POSITION = text("SELECT CAST(pg_current_wal_insert_lsn() AS text)")
_PASSED = text(
    "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(CAST(:position AS text) AS pg_lsn)"
)


class Replica:
    """A copy of the database that may be behind.

    A session that this storage changed is pinned to the primary until the replica has replayed the log up
    to a position that the primary had after the change. While the replica cannot be reached, all are.

    Args:
        database: The replica.
        primary: The database that it is a copy of.
    """

    def __init__(self, database: Database, primary: Database) -> None:
        self._database = database
        self._primary = primary
        self._executor = BatchExecutor(database, driver_for(database), lambda: 0)  # it only reads
        self._pins: dict[bytes, int] = {}
        self._changes = 0
        self._overflown = 0
        self._away = False
        self._watcher: asyncio.Task[None] | None = None

    def pin(self, digests: Iterable[bytes]) -> None:
        """Read these sessions from the primary, until the replica has what was written by now."""
        self._changes += 1
        for digest in digests:
            self._pins[digest] = self._changes
        if len(self._pins) > MAX_PINS:
            self._pins.clear()
            self._overflown = self._changes
        self._start_watching()

    async def read(self, digest: bytes, part: Part) -> Row | None:
        """The row of a session; None where the primary is to be asked."""
        if self._away or self._overflown or digest in self._pins:
            return None
        try:
            return await self._executor.read(digest, part)
        except (SessionError, OSError):
            self._away = True
            self._start_watching()
            return None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._watcher is not None and self._watcher.get_loop() is asyncio.get_running_loop():
            await end(self._watcher)
        await self._database.engines.aclose()

    def _start_watching(self) -> None:
        watcher = self._watcher
        if watcher is None or watcher.done() or watcher.get_loop().is_closed():
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while self._pins or self._overflown or self._away:
            await asyncio.sleep(POLL)
            changes = self._changes
            try:
                position = await self._primary.run(_position)
                while not await self._has(position):  # noqa: ASYNC110
                    await asyncio.sleep(POLL)
            except (SessionError, OSError):
                await asyncio.sleep(RETRY)
                continue
            self._pins = {digest: change for digest, change in self._pins.items() if change > changes}
            if self._overflown <= changes:
                self._overflown = 0

    async def _has(self, position: str) -> bool:
        passed = await self._database.run(partial(_passed, position=position))
        self._away = False
        return passed


def replica_of(
    primary: Database, read_url: str | URL | None, settings: Settings, engine_options: Mapping[str, Any]
) -> Replica | None:
    """The replica of a database that is at a URL; None if there is none.

    Raises:
        InvalidArgument: If the database can have none.
    """
    if read_url is None:
        return None
    if not primary.dialect.replicas:
        raise InvalidArgument(
            "read_url needs a PostgreSQL database: other databases do not report replication lag"
        )
    hurried = replace(settings, retry_for=0.0)  # the primary is there
    return Replica(Database(read_url, hurried, engine_options), primary)


async def _position(connection: AsyncConnection) -> str:
    return str((await connection.execute(_POSITION)).scalar_one())


async def _passed(connection: AsyncConnection, position: str) -> bool:
    return bool((await connection.execute(_PASSED, {"position": position})).scalar())
