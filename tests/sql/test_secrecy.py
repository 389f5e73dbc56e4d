"""Ids are credentials: no log line, error or table holds one; nor do the first two hold data."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import (
    CacheStorage,
    ManagedSessionStorage,
    SessionError,
    Snapshot,
    SqlSessionStorage,
    metadata,
    new_session_id,
)
from sqlsessions.records import Options, Record
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of, whole

from .support import TINY, each_database, query, sqlite

MARKER = b"the data of a session"
SMALL, LARGE = MARKER, MARKER * 20


class Ids:
    """Session ids, all of which are remembered."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self) -> str:
        self.given.append(new_session_id())
        return self.given[-1]

    def found_in(self, text: str) -> list[str]:
        return [id for id in self.given if id in text or id.encode().hex() in text.lower()]


async def use(storage: ManagedSessionStorage, ids: Ids, clock: ManualClock) -> list[BaseException]:
    """Do all kinds of things, many of which fail; gives what they raised."""
    small, large, gone = ids(), ids(), ids()
    errors: list[BaseException] = []

    async def attempt(call: Callable[[], Awaitable[Any]]) -> None:
        try:
            await call()
        except Exception as error:
            errors.append(error)

    await storage.write_bytes(small, SMALL, subject="ann")
    await storage.write(large, provider_of(LARGE), subject="ann")
    for id in (small, large):
        await storage.read(id, whole)
        await storage.touch(id, ttl=5)
        info = await storage.write_bytes(id, LARGE)
        await storage.write_bytes(id, SMALL, if_match=info.version)
        await attempt(partial(storage.write_bytes, id, LARGE, if_match=1))
        await attempt(partial(storage.write_bytes, id, SMALL, if_match=0))
        await attempt(partial(storage.rotate, id, small))
        await attempt(partial(storage.write, id, provider_of(LARGE, then=ValueError("the provider's"))))
        await attempt(partial(storage.write_bytes, id, LARGE * 100))
        await attempt(partial(storage.write_bytes, id, MARKER.decode()))  # type: ignore[arg-type]
        with suppress(asyncio.CancelledError):
            await storage.write(id, provider_of(LARGE, then=asyncio.CancelledError()))
    await attempt(lambda: storage.read_bytes(gone))
    await attempt(lambda: storage.rotate(gone, small))
    await attempt(lambda: storage.read_bytes(gone * 200))
    await attempt(lambda: storage.read_bytes(gone + "\ud800"))
    await storage.rotate(small, ids())
    await storage.write_bytes(ids(), LARGE, subject="bob")
    await storage.write_bytes(ids(), LARGE, ttl=1)
    await storage.invalidate(large)
    await storage.revoke("ann", keep=ids())
    clock.advance(2)
    await storage.purge()
    return errors


@each_database
@pytest.mark.parametrize("echo", [False, True, "debug"])
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
async def test_no_id_and_no_data_shows(
    sql_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture, echo: Any, cached: bool
) -> None:
    ids = Ids()
    caplog.set_level(logging.DEBUG)
    sql = SqlSessionStorage(sql_url, clock=clock, max_size=1000, engine_options={"echo": echo}, **TINY)
    async with CacheStorage(sql) if cached else sql as storage:
        errors = await use(storage, ids, clock)
        await query(sql_url, "ALTER TABLE sessions RENAME TO sessions_away")
        try:
            errors += await failing(storage, ids)
        finally:
            await query(sql_url, "ALTER TABLE sessions_away RENAME TO sessions")
    assert len(errors) > 20
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    raised = "\n".join("".join(traceback.format_exception(error)) for error in errors)
    marker = MARKER.decode()
    assert ids.found_in(raised) == []
    assert not any(marker in line for line in raised.splitlines() if not line.startswith(("    ", "  File")))
    if echo != "debug":  # which logs the rows that come back, as its users ask for
        assert marker not in logged
    assert ids.found_in(logged) == []
    if echo and not sql_url.startswith("sqlite"):
        assert "SELECT" in logged


async def failing(storage: ManagedSessionStorage, ids: Ids) -> list[BaseException]:
    """Calls that the database refuses; gives what they raised."""
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: storage.read_bytes(ids()),
        lambda: storage.write_bytes(ids(), SMALL),
        lambda: storage.write_bytes(ids(), LARGE),
        lambda: storage.write_bytes(ids(), SMALL, if_match=5),
        lambda: storage.touch(ids()),
        lambda: storage.rotate(ids(), ids()),
        lambda: storage.invalidate(ids()),
        lambda: storage.revoke("ann", keep=ids()),
        storage.purge,
    ]
    errors: list[BaseException] = []
    for call in calls:
        with pytest.raises(SessionError) as caught:
            await call()
        errors.append(caught.value)
    return errors


@each_database
async def test_no_table_holds_an_id(sql_url: str, clock: ManualClock) -> None:
    ids = Ids()
    async with SqlSessionStorage(sql_url, clock=clock, max_size=1000, **TINY) as storage:
        await use(storage, ids, clock)
        names = {"small": ids(), "large": ids(), "accented \u00e9\0 ": ids() + "\u00e9\0 "}
        for name, id in names.items():
            await storage.write_bytes(id, LARGE if name == "large" else SMALL)
        dump = [row for table in metadata.tables for row in await query(sql_url, f"SELECT * FROM {table}")]
        keys = {bytes(key) for (key,) in await query(sql_url, "SELECT id FROM sessions")}
    assert {sha256(id.encode()).digest() for id in names.values()} <= keys
    assert {len(key) for key in keys} == {32}
    everything = b"\n".join(
        bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode()
        for row in dump
        for value in row
    )
    assert MARKER in everything
    assert ids.found_in(everything.decode("latin-1")) == []
    if make_url(sql_url).get_backend_name() == "sqlite":
        with open(str(make_url(sql_url).database), "rb") as file:  # noqa: ASYNC230, PTH123
            assert ids.found_in(file.read().decode("latin-1")) == []


@sqlite
async def test_the_log_of_aiosqlite_holds_no_subject_and_no_data(
    sql_url: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "aiosqlite")
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        for id in ("small", "large"):
            await storage.write_bytes(
                id, b"confidential" * (50 if id == "large" else 1), subject="ann@example.com"
            )
        await storage.rotate("large", "new")
        assert len([info async for info in storage.sessions("ann@example.com")]) == 2
        assert await storage.revoke("ann@example.com") == 2
    logged = [record.getMessage() for record in caplog.records if record.name == "aiosqlite"]
    assert any("executing" in message for message in logged)
    assert not any("ann@example.com" in message or "confidential" in message for message in logged)


def test_no_repr_shows_a_subject() -> None:
    record = Record(1, 2, None, "ann@example.com", 3, 4, None, None)
    options = Options.checked(5, 6, "ann@example.com", 7)
    for each in (record, options, record.info(b"x"), Snapshot(b"", record.info(b"x"))):
        assert "ann@" not in repr(each)
