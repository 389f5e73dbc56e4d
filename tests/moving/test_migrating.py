"""`MigratingStorage` over sources in memory, step by step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sqlsessions import (
    InvalidArgumentType,
    MigratingStorage,
    SessionConflict,
    SessionNotFound,
    SessionStorage,
    SessionStorageMemory,
    Snapshot,
    StorageUnavailable,
)
from sqlsessions._validation import MAX_DURATION
from sqlsessions.layers.migrating import MOVING
from sqlsessions.moving import OldSession, Refused, Source
from sqlsessions.testing import ManualClock, SpyStorage, StorageContract

ID = "i" * 32
Step = Callable[[], Awaitable[Any]]


class Old(Source):
    """Sessions in a dict. Before each call a function may be called."""

    def __init__(self, *sessions: OldSession) -> None:
        self.kept = {session.id: session for session in sessions}
        self.before: Callable[[str], Awaitable[None]] | None = None
        self.closed = False

    async def load(self, id: str) -> OldSession | None:
        await self._step("load")
        return self.kept.get(id)

    async def end(self, id: str) -> None:
        await self._step("end")
        self.kept.pop(id, None)

    async def sessions(self) -> AsyncIterator[OldSession | Refused]:
        for session in list(self.kept.values()):
            yield session
        yield Refused("for the test")

    async def aclose(self) -> None:
        self.closed = True

    async def _step(self, name: str) -> None:
        if self.before is not None:
            await self.before(name)


class Stepping(SpyStorage):
    """The new place, before each call of which a function may be called."""

    before: Callable[[str], Awaitable[None]] | None = None

    async def load(self, id: str) -> Any:
        await self._step("new.load")
        return await super().load(id)

    async def write_bytes(self, id: str, data: Any, **options: Any) -> Any:
        await self._step("new.write")
        return await super().write_bytes(id, data, **options)

    async def _step(self, name: str) -> None:
        if self.before is not None:
            await self.before(name)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def old_session(clock: ManualClock, seconds: float = 1000, **options: Any) -> OldSession:
    expires_at = datetime.fromtimestamp(clock(), UTC) + timedelta(seconds=seconds)
    return OldSession(ID, b'{"a":1}', expires_at, "alice", **options)


@pytest.fixture
def places(clock: ManualClock) -> tuple[MigratingStorage, Stepping, Old]:
    new, old = Stepping(SessionStorageMemory(clock=clock, ttl=100)), Old(old_session(clock))
    return MigratingStorage(new, old), new, old


class TestContract(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return MigratingStorage(SessionStorageMemory(clock=clock), SessionStorageMemory(clock=clock))


async def read(storage: MigratingStorage) -> bytes:
    return await storage.read(ID, lambda channel: channel.read())


async def rotate(storage: MigratingStorage) -> None:
    await storage.rotate(ID, "new id")
    await storage.rotate("new id", ID)


@pytest.mark.parametrize(
    "first",
    [
        lambda storage: storage.load(ID),
        lambda storage: storage.info(ID),
        lambda storage: storage.touch(ID),
        lambda storage: storage.read_bytes(ID),
        read,
        rotate,
        lambda storage: storage.revoke("alice", keep=ID),
    ],
    ids=["load", "info", "touch", "read_bytes", "read", "rotate", "keep"],
)
async def test_any_use_moves_a_session(
    places: tuple[MigratingStorage, Stepping, Old], first: Callable[[MigratingStorage], Awaitable[Any]]
) -> None:
    storage, new, old = places
    await first(storage)
    assert old.kept == {}
    snapshot = await new.load(ID)
    assert snapshot is not None
    assert (snapshot.data, snapshot.info.subject) == (b'{"a":1}', "alice")


async def test_writes_know_of_sessions_that_were_not_moved(
    places: tuple[MigratingStorage, Stepping, Old],
) -> None:
    storage, _, old = places
    with pytest.raises(SessionConflict):
        await storage.write_bytes(ID, b"{}", if_match=0)
    other = "j" * 32
    old.kept[other] = OldSession(other, b"{}", None, "bob")
    with pytest.raises(SessionConflict):
        await storage.rotate(ID, other)
    info = await storage.write_bytes(ID, b'{"b":2}')
    assert info.subject == "alice"  # it is the same session


@pytest.mark.parametrize(
    ("session", "ends_after", "touched_after"),
    [
        ({"seconds": 1000}, 1000, 1000),  # it had longer than the new storage gives
        ({"seconds": 10}, 100, 100),
        ({"seconds": 2e11}, MAX_DURATION, MAX_DURATION),
        ({"seconds": 50, "absolute": True}, 50, 50),
    ],
    ids=["longer", "shorter", "endless", "absolute"],
)
async def test_expiries_stay(
    clock: ManualClock, session: dict[str, Any], ends_after: float, touched_after: float
) -> None:
    storage = MigratingStorage(SessionStorageMemory(clock=clock, ttl=100), Old(old_session(clock, **session)))
    snapshot = await storage.load(ID)
    assert snapshot is not None
    assert snapshot.info.expires_at is not None
    assert snapshot.info.expires_at.timestamp() == pytest.approx(clock() + ends_after)
    began = clock()
    clock.advance(ends_after / 2)
    info = await storage.touch(ID)
    assert info is not None
    assert info.expires_at is not None
    later = 0 if session.get("absolute") else ends_after / 2
    assert info.expires_at.timestamp() == pytest.approx(began + touched_after + later)


async def test_what_has_expired_is_not_moved(
    clock: ManualClock, places: tuple[MigratingStorage, Stepping, Old]
) -> None:
    storage, new, _ = places
    clock.advance(1001)
    assert await storage.load(ID) is None
    with pytest.raises(SessionNotFound):
        await storage.read_bytes(ID)
    assert "write" not in new.calls


ENDS: dict[str, Callable[[MigratingStorage], Awaitable[Any]]] = {
    "invalidate": lambda storage: storage.invalidate(ID),
    "invalidate_key": lambda storage: storage.invalidate_key(storage.digest(ID).hex()),
    "revoke": lambda storage: storage.revoke("alice"),
}
STEPS = 7  # of a move, as one of the tests counts them


@pytest.mark.parametrize("end", ENDS)
async def test_what_ends_a_session_ends_it_in_both_places(
    places: tuple[MigratingStorage, Stepping, Old], end: str
) -> None:
    storage, _, old = places
    await ENDS[end](storage)
    assert old.kept == {}
    assert await storage.load(ID) is None


async def test_the_steps_of_a_move(places: tuple[MigratingStorage, Stepping, Old]) -> None:
    async def nothing() -> None:
        pass

    assert (await at_step(places, 1, nothing))[0] == STEPS


async def at_step(
    places: tuple[MigratingStorage, Stepping, Old], number: int, what: Step
) -> tuple[int, Snapshot | None]:
    """Load a session, and do something else before a step of that; the number of steps, and what was loaded."""
    storage, new, old = places
    steps = 0

    async def before(_name: str) -> None:
        nonlocal steps
        steps += 1
        if steps == number:
            new.before = old.before = None
            await what()
            new.before = old.before = before

    new.before = old.before = before
    found = await storage.load(ID)
    new.before = old.before = None
    return steps, found


@pytest.mark.parametrize("end", ENDS)
async def test_no_move_brings_back_what_ended_during_it(clock: ManualClock, end: str) -> None:
    """Whichever step of the move the end comes before, by another process."""
    for number in range(1, STEPS + 1):
        new, old = Stepping(SessionStorageMemory(clock=clock)), Old(old_session(clock))
        other = MigratingStorage(new, old)
        mine = MigratingStorage(new, old)
        await at_step((mine, new, old), number, lambda: ENDS[end](other))  # noqa: B023
        assert await other.load(ID) is None, f"ended before step {number}"


async def test_two_moves_at_once_are_one(clock: ManualClock) -> None:
    """Both processes have the session, and it stays in the new place alone."""
    for number in range(1, STEPS + 1):
        new, old = Stepping(SessionStorageMemory(clock=clock)), Old(old_session(clock))
        mine, other = MigratingStorage(new, old), MigratingStorage(new, old)
        found = []

        async def load() -> None:
            found.append(await other.load(ID))  # noqa: B023

        found.append((await at_step((mine, new, old), number, load))[1])
        assert [snapshot and snapshot.data for snapshot in found] == [b'{"a":1}'] * 2, f"step {number}"
        assert found[0] == found[1]
        assert old.kept == {}


async def test_a_move_that_was_broken_off_is_finished_by_the_next(
    places: tuple[MigratingStorage, Stepping, Old],
) -> None:
    storage, new, old = places
    await new.write_bytes(ID, MOVING, if_match=0)  # and then the process was killed
    assert await storage.load_key(storage.digest(ID).hex()) is None
    assert await storage.read_bytes(ID) == b'{"a":1}'
    assert old.kept == {}


async def test_a_session_whose_old_place_fails_is_moved_later(
    places: tuple[MigratingStorage, Stepping, Old],
) -> None:
    storage, new, old = places

    failing = ""

    async def fail(name: str) -> None:
        if name == failing:
            raise ConnectionResetError

    old.before = fail
    for name in ("load", "end"):
        failing = name
        with pytest.raises(StorageUnavailable, match=r"old place .*ConnectionResetError"):
            await storage.load(ID)
        assert await new.load(ID) is None
    with pytest.raises(StorageUnavailable):
        await storage.invalidate(ID)
    old.before = None
    assert await storage.load(ID) is not None


async def test_a_cancelled_request_leaves_a_whole_session(
    places: tuple[MigratingStorage, Stepping, Old],
) -> None:
    storage, new, old = places
    task: asyncio.Task[Any]

    async def cancel(name: str) -> None:
        if name == "end":
            task.cancel()
            await asyncio.sleep(0)

    old.before = cancel
    task = asyncio.ensure_future(storage.load(ID))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert old.kept == {}
    assert await new.load(ID) is not None


async def test_one_that_is_too_large_is_none_and_stays(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = Old(OldSession(ID, b"x" * 101))
    storage = MigratingStorage(SessionStorageMemory(clock=clock, max_bytes=100), old)
    with caplog.at_level(logging.WARNING, "sqlsessions"):
        assert await storage.load(ID) is None
    assert "cannot be moved" in caplog.text
    assert ID in old.kept


async def test_both_places_are_closed(places: tuple[MigratingStorage, Stepping, Old]) -> None:
    storage, new, old = places
    closed = []

    async def aclose() -> None:
        closed.append(True)

    new.aclose = aclose  # type: ignore[method-assign]
    await storage.aclose()
    assert old.closed
    assert closed == [True]


@pytest.mark.parametrize(
    "arguments", [(SessionStorageMemory(), 1), (1, SessionStorageMemory())], ids=["old", "new"]
)
def test_wrong_arguments(arguments: Any) -> None:
    with pytest.raises(InvalidArgumentType):
        MigratingStorage(*arguments)
