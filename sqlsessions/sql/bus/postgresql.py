"""The bus of a PostgreSQL database: the notices that its triggers send with each commit."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from struct import iter_unpack
from typing import Any

from sqlalchemy import Boolean, literal_column, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ...cache.bus import ListeningBus, Notice
from ...errors import SchemaOutOfDate, StorageUnavailable
from ..engine.database import IDEMPOTENT, Database
from ..models import LISTENING_KEY, NOTICE_CHANNEL, NOTICE_TRIGGERS, chunks

RENEWAL = 60.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds
NOTICE = "32s8s"  # a digest and a version

# While the server's queue of notices is half full, because somebody who listens takes none, triggers send none. It
# cannot fill up from here to there between two heartbeats.
_HEARTBEAT = "SELECT pg_notify({}, {}) WHERE pg_notification_queue_usage() < 0.25"
# A trigger may be made for the partitioned table, which its partitions inherit.
_TRIGGERS = text(
    "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(:name) AND tgenabled IN ('O', 'A')"
    " AND tgname = ANY(:triggers)"
)
# Whoever changes sessions holds this lock to the end of the transaction.
_WRITERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'"
    " AND relation = to_regclass(:name) AND database ="
    " (SELECT oid FROM pg_database WHERE datname = current_database())"
)
OUTLASTING = "transactions that change sessions are under way since before anybody listened, and may commit without a notice"

Arrived = Callable[[str, str], None]
"""Takes a notice: its channel and its payload."""


class PostgreSQLBus(ListeningBus):
    """Listens to the notices of a database, on a connection of its own.

    Triggers send them in the transaction that changes sessions, whoever does so, while a row in the database says
    that somebody listens.

    Args:
        database: The database.
        direct: The same server without a pooler in between, for which the connection is made.
    """

    def __init__(self, database: Database, direct: Database) -> None:
        super().__init__()
        self._database = database
        self._direct = direct

    async def aclose(self) -> None:
        await super().aclose()
        if self._direct is not self._database:
            await self._direct.engines.aclose()

    async def _serve(self) -> None:
        await self._require_triggers()
        async with self._connection() as connection:
            own = f"{NOTICE_CHANNEL}_{secrets.token_hex(8)}"
            arrived = partial(self._arrived, own)
            line = (
                _AsyncpgLine(connection, arrived, self._doubt)
                if hasattr(connection, "add_listener")
                else _PsycopgLine(connection, arrived)
            )
            await line.listen((NOTICE_CHANNEL, own))
            renewed: float | None = None
            while True:
                # Also after a long stop, before a heartbeat proves that triggers know who listens.
                if renewed is None or time.monotonic() - renewed > RENEWAL:
                    inserted = await self._database.run(self._renew, resolve=IDEMPOTENT)
                    if inserted or renewed is None:
                        await self._outlast_writers()
                    renewed = time.monotonic()
                await self._beat(line)

    def _arrived(self, own: str, channel: str, payload: str) -> None:
        if channel == own:
            self._hear(payload)
        elif payload == "*":
            self._note_gap()
        else:
            self._deliver(
                [
                    Notice(digest, int.from_bytes(version, "big"))
                    for digest, version in iter_unpack(NOTICE, bytes.fromhex(payload))
                ]
            )

    async def _renew(self, connection: AsyncConnection) -> bool:
        """Say that somebody listens; whether nobody had."""
        stamp = self._database.dialect.stamp()
        row = insert(chunks).values(**LISTENING_KEY, data=stamp)
        row = row.on_conflict_do_update(index_elements=[*chunks.primary_key], set_={"data": stamp})
        inserted = await connection.execute(row.returning(literal_column("xmax = 0", Boolean())))
        return bool(inserted.scalar_one())

    async def _outlast_writers(self) -> None:
        """Wait until transactions have ended whose triggers may have found that nobody listens."""
        writers = partial(_writers, name=self._table)
        first, pause = await self._database.run(writers), FIRST_PAUSE
        while first & await self._database.run(writers):
            self._obstacle = OUTLASTING
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def _table(self) -> str:
        """The name of the table."""
        engine = self._database.engine.sync_engine
        schema = (engine.get_execution_options().get("schema_translate_map") or {}).get(None)
        quote = engine.dialect.identifier_preparer.quote_identifier
        return "sessions" if schema is None else f"{quote(schema)}.sessions"

    async def _require_triggers(self) -> None:
        if await self._database.run(partial(_triggers, name=self._table)) != len(NOTICE_TRIGGERS):
            raise SchemaOutOfDate("the table sessions sends no notices of changes: run `sqlsessions upgrade`")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        """A driver's connection of our own, in no transaction."""
        state = await self._direct.engines.enter()
        pooled = await state.engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        try:
            if hasattr(connection, "set_autocommit"):
                await connection.rollback()
                await connection.set_autocommit(True)
            if await _behind_pooler(self._direct, connection):
                raise StorageUnavailable(
                    "no notices come through a pooler: give SqlSessionStorage the URL of the server itself, "
                    "as direct_url"
                )
            yield connection
        finally:
            if hasattr(connection, "terminate"):
                connection.terminate()
            else:
                await connection.close()


async def _behind_pooler(database: Database, connection: Any) -> bool:
    if not hasattr(connection, "set_autocommit"):
        return await database.dialect.behind_pooler(connection)
    [pid] = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    return bool(pid != connection.info.backend_pid)


async def _triggers(connection: AsyncConnection, name: str) -> int:
    found = await connection.execute(_TRIGGERS, {"name": name, "triggers": list(NOTICE_TRIGGERS)})
    return int(found.scalar_one())


async def _writers(connection: AsyncConnection, name: str) -> set[str]:
    return set((await connection.execute(_WRITERS, {"name": name})).scalars())


class _AsyncpgLine:
    """Notices arrive by themselves."""

    def __init__(self, connection: Any, arrived: Arrived, lost: Callable[[], None]) -> None:
        self._connection = connection
        self._arrived = arrived
        self._lost = lost
        self._own = ""
        self._woken = asyncio.Event()

    async def listen(self, channels: Sequence[str]) -> None:
        self._own = channels[-1]
        self._connection.add_termination_listener(lambda _connection: self._lost())
        for channel in channels:
            await self._connection.add_listener(channel, self._take)

    def _take(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        self._arrived(channel, payload)
        if channel == self._own:
            self._woken.set()

    async def send(self, heartbeat: str) -> None:
        await self._connection.fetch(_HEARTBEAT.format("$1", "$2"), self._own, heartbeat)

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()


class _PsycopgLine:
    """Notices arrive while they are waited for."""

    def __init__(self, connection: Any, arrived: Arrived) -> None:
        self._connection = connection
        self._arrived = arrived
        self._own = ""

    async def listen(self, channels: Sequence[str]) -> None:
        self._own = channels[-1]
        for channel in channels:
            await self._connection.execute(f"LISTEN {channel}")

    async def send(self, heartbeat: str) -> None:
        await self._connection.execute(_HEARTBEAT.format("%s", "%s"), (self._own, heartbeat))

    async def wait(self, seconds: float) -> None:
        async for notify in self._connection.notifies(timeout=seconds, stop_after=1):
            self._arrived(notify.channel, notify.payload)
