"""What the tests of the SQL storage share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from sqlsessions import SessionNotFound, SqlSessionStorage, new_session_id, schema
from sqlsessions.sql.drivers.asyncmy import AsyncmyDriver
from sqlsessions.sql.models import SUPERSEDED, TOMBSTONE

TINY: dict[str, Any] = {"inline_limit": 100, "chunk_size": 100}
"""Limits at which a few hundred bytes are a large session."""

INLINE, LARGE = b"small", bytes(range(250)) * 2

NETWORK = ["postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "mysql+aiomysql"]
each_database = pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy"], indirect=True
)
each_database_and_mysql = pytest.mark.parametrize(
    "sql_url", ["sqlite+aiosqlite", "postgresql+asyncpg", "mysql+asyncmy", "MySQL+asyncmy"], indirect=True
)
each_way = pytest.mark.parametrize(
    "sql_url",
    ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "MySQL+asyncmy"],
    indirect=True,
)
each_server_and_mysql = pytest.mark.parametrize(
    "sql_url", ["postgresql+asyncpg", "mysql+asyncmy", "MySQL+asyncmy"], indirect=True
)
each_server = pytest.mark.parametrize("sql_url", ["postgresql+asyncpg", "mysql+asyncmy"], indirect=True)
each_network_driver = pytest.mark.parametrize("sql_url", NETWORK, indirect=True)
postgresql = pytest.mark.parametrize("sql_url", ["postgresql+asyncpg"], indirect=True)
mariadb = pytest.mark.parametrize("sql_url", ["mysql+asyncmy"], indirect=True)
sqlite = pytest.mark.parametrize("sql_url", ["sqlite+aiosqlite"], indirect=True)


def in_use(storage: SqlSessionStorage) -> int:
    """How many pooled connections are out, but for idle ones that batches keep at hand."""
    kept_idle = len(storage._database.engines.state().kept_idle)
    out: int = storage.engine.pool.checkedout()  # type: ignore[attr-defined]
    return out - kept_idle


def kind(url: str) -> str:
    """The database of a URL."""
    return make_url(url).get_backend_name()


async def query(url: str, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement over a connection of the test's own, and commit."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        result = await connection.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


async def chunk_rows(url: str) -> list[tuple[int, int]]:
    """The version and number of every chunk; -1 is the mark of a superseded version."""
    return await query(url, "SELECT version, seq FROM session_chunks ORDER BY version, seq")


async def age(url: str, seconds: float) -> None:
    """Let time pass by the database's own clock: all that has a time by it was so much earlier."""
    stamped = f"seq = {SUPERSEDED} OR seq <= {TOMBSTONE}"
    for version, id, seq, data in await query(
        url, f"SELECT version, id, seq, data FROM session_chunks WHERE {stamped}"
    ):
        earlier = int.from_bytes(data[:8], "big") - round(seconds * 1_000_000)
        await query(
            url,
            "UPDATE session_chunks SET data = :data WHERE version = :version AND id = :id AND seq = :seq",
            data=earlier.to_bytes(8, "big") + data[8:],
            version=version,
            id=id,
            seq=seq,
        )


async def purge_in_time(storage: SqlSessionStorage, url: str) -> None:
    """Purge until nothing is left of what was staged, superseded or ended: a purge dates what the next ones delete."""
    for _ in range(5):
        await storage.purge()
        await age(url, 2 * 86_400)


def touching(url: str) -> list[str]:
    """The verbs of the packet of a touch: where an UPDATE has no RETURNING, a SELECT tells what it made of the session."""
    return ["UPDATE", "SELECT"] if kind(url) == "mysql" else ["UPDATE"]


def verbs(seen: list[str]) -> list[str]:
    """The first word of each statement."""
    return [statement.split()[0] for statement in seen]


@asynccontextmanager
async def statements(storage: SqlSessionStorage) -> AsyncIterator[list[str]]:
    """The statements that the one connection of a storage is given meanwhile, whichever way."""
    seen: list[str] = []

    def note(statement: Any) -> None:
        seen.append(" ".join(getattr(statement, "query", statement).split()))

    def of_cursor(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        note(statement)

    def in_process(statement: str) -> None:
        if statement not in ("BEGIN IMMEDIATE", "COMMIT"):  # no round trips, and autocommit does the same
            note(statement)

    async def listen(*, on: bool) -> None:
        async with holding(storage, 1) as [driver]:
            if hasattr(driver, "set_trace_callback"):
                await driver.set_trace_callback(in_process if on else None)
            elif hasattr(driver, "add_query_logger"):
                (driver.add_query_logger if on else driver.remove_query_logger)(note)
            else:
                (event.listen if on else event.remove)(
                    storage.engine.sync_engine, "before_cursor_execute", of_cursor
                )

    await listen(on=True)
    try:
        async with packets(lambda packet: [*map(note, packet)]):
            yield seen
    finally:
        await listen(on=False)


@asynccontextmanager
async def packets(note: Callable[[list[str]], object] | None = None) -> AsyncIterator[list[list[str]]]:
    """The statements of batches on MariaDB and MySQL meanwhile, by packets."""
    sent: list[list[str]] = []
    send = AsyncmyDriver.send

    async def sending(driver: Any, connection: Any, packet: Sequence[str]) -> Any:
        sent.append(list(packet))
        if note is not None:
            note(sent[-1])
        return await send(driver, connection, packet)

    with patch.object(AsyncmyDriver, "send", sending):
        yield sent


@asynccontextmanager
async def holding(storage: SqlSessionStorage, number: int) -> AsyncIterator[list[Any]]:
    """Take connections from the pool of a storage, and give the drivers' own objects for them."""
    state = storage._database.engines.state()
    async with AsyncExitStack() as held:
        state.waiting += 1  # so that none that is given back meanwhile is kept at hand
        try:
            await state.release_idle(every=True)
            connections = [await held.enter_async_context(storage.engine.connect()) for _ in range(number)]
        finally:
            state.waiting -= 1
        yield [(await connection.get_raw_connection()).driver_connection for connection in connections]


async def reconnect(storage: SqlSessionStorage) -> None:
    """Let the next operation be the second one of a new connection, which has prepared nothing."""
    await quiet(storage)
    await storage._database.engines.state().release_idle(every=True)
    await storage.engine.dispose()
    await storage.info("id")


async def quiet(storage: SqlSessionStorage) -> None:
    """Wait for what the storage does in the background."""
    async with asyncio.timeout(30):
        while tasks := [*storage._database.engines.state().tasks]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)


async def works(url: str) -> None:
    """Use a database by way of a storage and of `schema`."""
    async with SqlSessionStorage(url, retry_for=0) as storage:
        await storage.write_bytes("id", b"data", subject="ann")
        assert await storage.read_bytes("id") == b"data"
        await storage.invalidate("id")
    await schema.check(url)


def at(base: str, driver: str, option: str) -> str:
    """A URL with a driver and an option."""
    url = make_url(base)
    text = url.set(drivername=f"{url.get_backend_name()}+{driver}").render_as_string(hide_password=False)
    return f"{text}?{option}"


async def keep_rotating(storage: SqlSessionStorage, id: str, started: asyncio.Event) -> None:
    """Give a session one new id after another until it has ended; the event is set after the first."""
    try:
        while True:
            new_id = new_session_id()
            await storage.rotate(id, new_id)
            id = new_id
            started.set()
    except SessionNotFound:
        started.set()
